"""The few lines that differ between the backends of Keras."""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_distill.backend.tensorflow import NumericsError
    from keras_distill.backend.tensorflow import after
    from keras_distill.backend.tensorflow import check_finite
    from keras_distill.backend.tensorflow import is_distributed
    from keras_distill.backend.tensorflow import unscale_loss
else:
    raise ImportError(
        "keras_distill runs on the TensorFlow backend of Keras so far. "
        'Set KERAS_BACKEND="tensorflow". '
        f"Received: keras.backend.backend()={keras.backend.backend()!r}"
    )

__all__ = [
    "NumericsError",
    "after",
    "check_finite",
    "is_distributed",
    "unscale_loss",
]

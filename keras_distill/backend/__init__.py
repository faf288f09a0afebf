"""The few lines that differ between the backends of Keras."""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_distill.backend.tensorflow import NumericsError
    from keras_distill.backend.tensorflow import RecordError
    from keras_distill.backend.tensorflow import after
    from keras_distill.backend.tensorflow import check_finite
    from keras_distill.backend.tensorflow import compile_inference
    from keras_distill.backend.tensorflow import count_multiply_adds
    from keras_distill.backend.tensorflow import is_distributed
    from keras_distill.backend.tensorflow import read_records
    from keras_distill.backend.tensorflow import unscale_loss
    from keras_distill.backend.tensorflow import write_records
else:
    raise ImportError(
        "keras_distill runs on the TensorFlow backend of Keras so far. "
        'Set KERAS_BACKEND="tensorflow". '
        f"Received: keras.backend.backend()={keras.backend.backend()!r}"
    )

__all__ = [
    "NumericsError",
    "RecordError",
    "after",
    "check_finite",
    "compile_inference",
    "count_multiply_adds",
    "is_distributed",
    "read_records",
    "unscale_loss",
    "write_records",
]

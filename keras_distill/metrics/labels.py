"""Labels and probabilities for the calibration metrics."""

import keras
from keras import ops

from keras_distill.targets import LOG_SMALLEST
from keras_distill.targets import to_logits


def to_class_ids(y_true, y_pred):
    """Returns class ids or one-hot labels as int32 class ids."""
    y_true = ops.convert_to_tensor(y_true)
    classes = y_pred.shape[-1]
    if classes == 1:
        raise ValueError(
            "Expected outputs of at least two classes. For a binary classifier "
            "with one logit z, use two logits (0, z). Received: outputs of "
            f"shape {tuple(y_pred.shape)}"
        )
    rank = len(y_pred.shape)
    if len(y_true.shape) == rank and y_true.shape[-1] == classes:
        y_true = ops.argmax(y_true, axis=-1)
    elif len(y_true.shape) == rank and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    elif len(y_true.shape) != rank - 1:
        raise ValueError(
            "Expected labels to be class ids, or one-hot. Received: labels of "
            f"shape {tuple(y_true.shape)} for outputs of shape "
            f"{tuple(y_pred.shape)}"
        )
    return ops.cast(y_true, "int32")


def to_probabilities(y_pred, from_logits: bool):
    """Returns the probabilities of all classes, in float32 or wider."""
    if not from_logits:
        y_pred = to_logits(y_pred, LOG_SMALLEST)
    dtype = keras.backend.result_type(y_pred.dtype, "float32")
    return ops.softmax(ops.cast(y_pred, dtype), axis=-1)

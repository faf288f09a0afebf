import keras
from keras import ops

from keras_distill.backend import is_concrete
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import set_direction
from keras_distill.metrics.weights import to_weights
from keras_distill.targets import LOG_SMALLEST
from keras_distill.targets import count_classes
from keras_distill.targets import is_float
from keras_distill.targets import to_logits
from keras_distill.validation import check_class_ids
from keras_distill.validation import check_flag
from keras_distill.validation import check_float_dtype
from keras_distill.validation import check_given
from keras_distill.validation import check_weight_rows
from keras_distill.validation import shapes_agree


class LabelMetric(keras.metrics.Metric):
    """Base class of the metrics that compare probabilities with labels."""

    def __init__(self, shape, from_logits, name, dtype):
        super().__init__(name=name, dtype=dtype)
        check_flag("from_logits", from_logits)
        check_float_dtype(self.dtype)
        self.from_logits = from_logits
        self.sums = self.add_variable(
            shape=shape, initializer="zeros", dtype=self.dtype, name="sums"
        )
        set_direction(self, "down")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Class ids of shape `(batch, ...)`, or one-hot labels of
                shape `(batch, ..., classes)`.
            y_pred: The outputs, of shape `(batch, ..., classes)`.
            sample_weight: Optional weights of shape `(batch,)` or
                `(batch, ...)`.
        """
        check_given(y_true=y_true, y_pred=y_pred)
        y_pred = ops.convert_to_tensor(y_pred)
        check_weight_rows(sample_weight, y_pred)
        mask = get_keras_mask(y_pred)
        labels = to_class_ids(y_true, y_pred)
        if not self.from_logits:
            y_pred = to_logits(y_pred, LOG_SMALLEST)
        wide = keras.backend.result_type(y_pred.dtype, "float32")
        probabilities = ops.softmax(ops.cast(y_pred, wide), axis=-1)
        weights = to_weights(probabilities[..., 0], sample_weight, mask)
        weights = ops.reshape(weights, (-1, 1))
        probabilities = ops.reshape(
            probabilities, (-1, probabilities.shape[-1])
        )
        # Entries with zero weight may be NaN, and have any label.
        probabilities = ops.where(weights == 0, 0.0, probabilities)
        weights = weights[:, 0]
        labels = ops.where(weights == 0, 0, ops.reshape(labels, (-1,)))
        valid = are_class_ids(labels, probabilities.shape[-1])
        sums = self.sum_batch(labels, probabilities, weights)
        sums = ops.where(valid, sums, float("nan"))
        self.sums.assign_add(ops.cast(sums, self.sums.dtype))

    def sum_batch(self, labels, probabilities, weights):
        """Returns what a batch of samples adds to the sums."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


def are_class_ids(labels, num_classes: int):
    """Raises if labels are no classes. In a compiled step, returns False."""
    if is_concrete(labels):
        check_class_ids(ops.convert_to_numpy(labels), num_classes)
        return True
    return ops.all(ops.logical_and(labels >= 0, labels < num_classes))


def to_class_ids(y_true, y_pred):
    """Returns class ids or one-hot labels as int32 class ids."""
    dtype = getattr(y_true, "dtype", None)
    if (
        getattr(dtype, "kind", "") in ("O", "S", "U")
        or getattr(dtype, "name", "") == "string"
    ):
        raise ValueError(
            "Expected labels to be class ids, or one-hot. Received: strings"
        )
    y_true = ops.convert_to_tensor(y_true)
    classes = count_classes(y_pred.shape, -1)
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
    if not shapes_agree(y_true.shape, y_pred.shape[:-1]):
        raise ValueError(
            "Expected labels to be class ids, or one-hot. Received: labels of "
            f"shape {tuple(y_true.shape)} for outputs of shape "
            f"{tuple(y_pred.shape)}"
        )
    if is_float(y_true):
        is_whole = ops.equal(y_true, ops.round(y_true))
        if is_concrete(is_whole) and not ops.all(is_whole):
            raise ValueError(
                "Expected labels to be class ids, which are whole numbers. "
                "Received: labels with fractions"
            )
        y_true = ops.where(is_whole, y_true, -1.0)
    return ops.cast(y_true, "int32")

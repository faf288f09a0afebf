import keras
from keras import ops

from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import set_direction
from keras_distill.metrics.labels import to_class_ids
from keras_distill.metrics.labels import to_probabilities
from keras_distill.metrics.weights import flatten_weighted
from keras_distill.validation import check_flag
from keras_distill.validation import check_integer


def sum_by_confidence(labels, probabilities, num_bins: int, weights=None):
    """Returns weights, confidences and correct predictions, summed per bin.

    The confidence is the probability of the most likely class. Bin m of M
    contains the samples with a confidence in `((m - 1) / M, m / M]` (Guo et
    al., 2017, "On Calibration of Modern Neural Networks", section 2). The
    result has the shape `(3, num_bins)`.
    """
    dtype = probabilities.dtype
    confidences = ops.max(probabilities, axis=-1)
    predicted = ops.cast(ops.argmax(probabilities, axis=-1), labels.dtype)
    correct = ops.cast(ops.equal(predicted, labels), dtype)
    if weights is None:
        weights = ops.ones_like(confidences)
    # Samples with zero weight may be NaN.
    confidences = ops.where(weights == 0, 0.0, confidences)
    bins = ops.cast(ops.ceil(confidences * num_bins), "int32") - 1
    in_bin = ops.one_hot(
        ops.clip(bins, 0, num_bins - 1), num_bins, axis=0, dtype=dtype
    )
    return ops.stack(
        [
            ops.sum(in_bin * weights, axis=-1),
            ops.sum(in_bin * (weights * confidences), axis=-1),
            ops.sum(in_bin * (weights * correct), axis=-1),
        ]
    )


def expected_calibration_error(sums):
    """Returns the calibration error for the sums of `sum_by_confidence`.

    Guo et al. (2017), equation 3: the mean over all samples of
    `|accuracy - confidence|` of the sample's bin.
    """
    weights, confidences, correct = ops.unstack(sums, axis=0)
    total = ops.sum(weights)
    return ops.divide_no_nan(ops.sum(ops.abs(correct - confidences)), total)


@keras.saving.register_keras_serializable(package="keras_distill")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Difference between a model's confidence and its accuracy.

    If a calibrated model has a confidence of 80 %, it is right for 80 % of the
    samples. The metric sorts n samples into M bins B by confidence, which is
    the probability of the most likely class. The error is

        sum_m |B_m| / n * |accuracy(B_m) - confidence(B_m)|

    (Guo et al., 2017, "On Calibration of Modern Neural Networks", equation 3).

    Example:

    ```python
    student.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras_distill.metrics.ExpectedCalibrationError(num_bins=15)]
    )
    student.evaluate(x_test, y_test)
    ```

    Args:
        num_bins: Integer M, the number of bins of equal width. Defaults to
            `15`.
        from_logits: Whether the outputs are logits (`True`, the default) or
            probabilities.
        name: Optional name. Defaults to `"expected_calibration_error"`.
        dtype: Dtype of the result. Defaults to `None`, which means
            `keras.backend.floatx()`.

    Returns:
        Float in `[0, 1]`.

    Raises:
        ValueError: If `num_bins` is not a positive integer, or `from_logits` is
            not a bool.
    """

    def __init__(
        self,
        num_bins=15,
        from_logits=True,
        name="expected_calibration_error",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_bins = check_integer("num_bins", num_bins, low=1)
        check_flag("from_logits", from_logits)
        self.from_logits = from_logits
        self.sums = self.add_variable(
            (3, self.num_bins),
            initializer="zeros",
            dtype=self.dtype,
            name="sums",
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
        y_pred = ops.convert_to_tensor(y_pred)
        mask = get_keras_mask(y_pred)
        labels = to_class_ids(y_true, y_pred)
        probabilities = to_probabilities(y_pred, self.from_logits)
        _, weights = flatten_weighted(
            ops.cast(labels, probabilities.dtype), sample_weight, mask
        )
        sums = sum_by_confidence(
            ops.reshape(labels, (-1,)),
            ops.reshape(probabilities, (-1, probabilities.shape[-1])),
            self.num_bins,
            weights,
        )
        self.sums.assign_add(ops.cast(sums, self.sums.dtype))

    def result(self):
        return expected_calibration_error(ops.convert_to_tensor(self.sums))

    def get_config(self):
        return {
            **super().get_config(),
            "num_bins": self.num_bins,
            "from_logits": self.from_logits,
        }

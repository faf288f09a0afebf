import keras
from keras import ops

from keras_distill.metrics.label_metric import LabelMetric
from keras_distill.validation import check_integer


@keras.saving.register_keras_serializable(package="keras_distill")
class ExpectedCalibrationError(LabelMetric):
    """Difference between a model's confidence and its accuracy.

    If a calibrated model has a confidence of 80 %, it is right for 80 % of the
    samples. The metric sorts n samples into M bins B of equal width by their
    confidence, which is the probability of the most likely class. The error is

        sum_m |B_m| / n * |accuracy(B_m) - confidence(B_m)|

    (Guo et al., 2017, "On Calibration of Modern Neural Networks", equation 3).

    Example:

    ```python
    student.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras_distill.metrics.ExpectedCalibrationError()],
    )
    student.evaluate(x_test, y_test)
    ```

    Args:
        num_bins: Integer M, the number of bins. Defaults to `15`.
        from_logits: Whether the outputs are logits (`True`, the default) or
            probabilities.
        name: Optional name. Defaults to `"expected_calibration_error"`.
        dtype: Dtype of the result. Defaults to `keras.backend.floatx()`.

    Returns:
        Float in `[0, 1]`.

    Raises:
        ValueError: If an argument is invalid.
    """

    def __init__(
        self,
        num_bins=15,
        from_logits=True,
        name="expected_calibration_error",
        dtype=None,
    ):
        num_bins = check_integer("num_bins", num_bins, low=1)
        super().__init__((3, num_bins), from_logits, name, dtype)
        self.num_bins = num_bins

    def sum_batch(self, labels, probabilities, weights):
        confidences = ops.max(probabilities, axis=-1)
        correct = ops.equal(ops.argmax(probabilities, axis=-1), labels)
        bins = ops.cast(ops.ceil(confidences * self.num_bins), "int32") - 1
        in_bin = weights * ops.one_hot(
            ops.clip(bins, 0, self.num_bins - 1),
            self.num_bins,
            axis=0,
            dtype=weights.dtype,
        )
        correct = ops.cast(correct, weights.dtype)
        values = [ops.ones_like(weights), confidences, correct]
        return ops.stack([ops.sum(in_bin * row, axis=-1) for row in values])

    def result(self):
        weights, confidences, correct = ops.unstack(
            ops.convert_to_tensor(self.sums)
        )
        gap = ops.sum(ops.abs(correct - confidences))
        return ops.divide_no_nan(gap, ops.sum(weights))

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins}

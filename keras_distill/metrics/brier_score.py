import keras
from keras import ops

from keras_distill.metrics.label_metric import LabelMetric


@keras.saving.register_keras_serializable(package="keras_distill")
class BrierScore(LabelMetric):
    """Mean squared error of the probabilities.

    With the probabilities q and the one-hot label y, it is the mean of

        sum_i (q_i - y_i)^2

    (Brier, 1950, equation 2). The best value is 0, and the worst is 2. Unlike
    the calibration error, it is not small for uninformative probabilities.

    Example:

    ```python
    metric = keras_distill.metrics.BrierScore()
    metric.update_state(y_test, student(x_test))
    print(float(metric.result()))
    ```

    Args:
        from_logits: Whether the outputs are logits (`True`, the default) or
            probabilities.
        name: Optional name. Defaults to `"brier_score"`.
        dtype: Dtype of the result. Defaults to `keras.backend.floatx()`.

    Returns:
        Float in `[0, 2]`.

    Raises:
        ValueError: If `from_logits` is not a bool.
    """

    def __init__(self, from_logits=True, name="brier_score", dtype=None):
        super().__init__((2,), from_logits, name, dtype)

    def sum_batch(self, labels, probabilities, weights):
        one_hot = ops.one_hot(
            labels, probabilities.shape[-1], dtype=probabilities.dtype
        )
        errors = ops.sum(ops.square(probabilities - one_hot), axis=-1)
        return ops.stack([ops.sum(weights * errors), ops.sum(weights)])

    def result(self):
        return ops.divide_no_nan(self.sums[0], self.sums[1])

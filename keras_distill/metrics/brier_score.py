import keras
from keras import ops

from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import set_direction
from keras_distill.metrics.labels import to_class_ids
from keras_distill.metrics.labels import to_probabilities
from keras_distill.metrics.weights import flatten_weighted
from keras_distill.validation import check_flag


@keras.saving.register_keras_serializable(package="keras_distill")
class BrierScore(keras.metrics.Mean):
    """Mean squared error of the probabilities.

    With the probabilities q and the one-hot label y, it is the mean of

        sum_i (q_i - y_i)^2

    (Brier, 1950, equation 2). The best value is 0, and the worst is 2. Unlike
    the calibration error, it is not small for uninformative probabilities.

    Example:

    ```python
    student.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras_distill.metrics.BrierScore()],
    )
    student.evaluate(x_test, y_test)
    ```

    Args:
        from_logits: Whether the outputs are logits (`True`, the default) or
            probabilities.
        name: Optional name. Defaults to `"brier_score"`.
        dtype: Dtype of the result. Defaults to `None`, which means
            `keras.backend.floatx()`.

    Returns:
        Float in `[0, 2]`.

    Raises:
        ValueError: If `from_logits` is not a bool.
    """

    def __init__(self, from_logits=True, name="brier_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        check_flag("from_logits", from_logits)
        self.from_logits = from_logits
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
        labels = to_class_ids(y_true, y_pred)
        probabilities = to_probabilities(y_pred, self.from_logits)
        one_hot = ops.one_hot(
            labels, probabilities.shape[-1], dtype=probabilities.dtype
        )
        values = ops.sum(ops.square(probabilities - one_hot), axis=-1)
        super().update_state(
            *flatten_weighted(values, sample_weight, get_keras_mask(y_pred))
        )

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}

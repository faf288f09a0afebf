import keras
from keras import ops

from keras_distill.losses.conditions import require_temperature
from keras_distill.losses.temperature import check_temperature
from keras_distill.losses.temperature import soften
from keras_distill.losses.top_k import teacher_buckets
from keras_distill.metrics.distillation_metric import DistillationMetric
from keras_distill.soft_targets import EnsembleTargets
from keras_distill.soft_targets import TopKTargets


def soft_target_entropy(logits, temperature=1.0, axis=-1):
    """Returns the entropy of `softmax(logits / temperature)` in nats.

    Shannon (1948), section 6: `-sum_i p_i log p_i`, between 0 (one class is
    certain) and the logarithm of the number of classes (all are alike). It
    never falls when the temperature rises.

    Args:
        logits: Float tensor of shape `(..., classes)`.
        temperature: Positive number or scalar tensor. Defaults to `1.0`.
        axis: Axis of the classes. Defaults to `-1`.

    Returns:
        Tensor of shape `(...)`.
    """
    log_p = ops.log_softmax(soften(logits, temperature, axis), axis=axis)
    return -ops.sum(ops.exp(log_p) * log_p, axis=axis)


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargetEntropy(DistillationMetric):
    """How much the teacher's soft targets say besides one class, in nats.

    The mean entropy of the softmax of the teacher's logits at temperature T.
    At 0 they say no more than a label, at `log(classes)` nothing at all. It
    is a property of the teacher and the transfer set; the student's outputs
    only have the shape.

    Example:

    ```python
    distiller.compile(
        "adam",
        distillation_metrics=[
            keras_distill.metrics.SoftTargetEntropy(temperature=4.0)
        ],
    )
    ```

    Args:
        temperature: Positive float. Defaults to `1.0`. The teacher's mean of
            an arithmetic `Ensemble` and `TopKTargets` hold at the temperatures
            they were made for.
        from_logits: Whether the student's outputs are logits. Defaults to
            `None`: in a `Distiller` as the loss has it, elsewhere `True`.
        teacher_from_logits: The same for the teacher's. Defaults to `None`: as
            `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name. Defaults to `"soft_target_entropy"`.
        dtype: Dtype of the result. Defaults to `None`:
            `keras.backend.floatx()`.

    Returns:
        Float from 0 to the logarithm of the number of classes. Of
        `TopKTargets` the rest counts as one class: a lower bound.

    Raises:
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        temperature=1.0,
        from_logits=None,
        teacher_from_logits=None,
        axis=-1,
        name="soft_target_entropy",
        dtype=None,
    ):
        super().__init__(from_logits, teacher_from_logits, axis, name, dtype)
        self._temperature = check_temperature("temperature", temperature)

    @property
    def temperature(self):
        """The temperature. Fixed: another one is another metric."""
        return self._temperature

    def measure(self, teacher, student_logits):
        if isinstance(teacher, TopKTargets):
            logits = teacher_buckets(
                teacher, self.temperature, student_logits.shape[-1]
            )
            return soft_target_entropy(logits)
        if isinstance(teacher, EnsembleTargets):
            teacher = require_temperature(teacher, self.temperature)
        return soft_target_entropy(teacher, self.temperature, self.axis)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

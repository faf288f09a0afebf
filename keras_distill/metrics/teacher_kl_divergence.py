import keras

from keras_distill.losses import SoftTargetKLDivergence
from keras_distill.losses.temperature import check_temperature
from keras_distill.metrics.distillation_metric import DistillationMetric


@keras.saving.register_keras_serializable(package="keras_distill")
class TeacherKLDivergence(DistillationMetric):
    """How far the student's probabilities are from the teacher's.

    With p and q the softmax of the teacher's and of the student's logits at
    temperature T, the mean of

        sum_i p_i (log p_i - log q_i)

    in nats: 0 where they are equal. It is `SoftTargetKLDivergence` without its
    factor T^2, which makes gradients comparable and values not. Of
    `TopKTargets` it compares the k classes and the rest.

    Example:

    ```python
    distiller.compile(
        "adam",
        distillation_metrics=[
            keras_distill.metrics.TeacherKLDivergence(temperature=4.0)
        ],
    )
    ```

    Args:
        temperature: Positive float. Defaults to `1.0`: how the student is
            served. The teacher's mean of an arithmetic `Ensemble` and
            `TopKTargets` hold at the temperatures they were made for.
        from_logits: Whether the student's outputs are logits. Defaults to
            `None`: in a `Distiller` as the loss has it, elsewhere `True`.
        teacher_from_logits: The same for the teacher's. Defaults to `None`: as
            `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name. Defaults to `"teacher_kl_divergence"`.
        dtype: Dtype of the result. Defaults to `None`:
            `keras.backend.floatx()`.

    Returns:
        Float, at least 0.

    Raises:
        ValueError: If the temperature is not positive.
    """

    def __init__(
        self,
        temperature=1.0,
        from_logits=None,
        teacher_from_logits=None,
        axis=-1,
        name="teacher_kl_divergence",
        dtype=None,
    ):
        super().__init__(from_logits, teacher_from_logits, axis, name, dtype)
        self._temperature = check_temperature("temperature", temperature)
        self._loss = SoftTargetKLDivergence(
            self.temperature, axis=axis, reduction=None
        )
        self._direction = "down"

    @property
    def temperature(self):
        """The temperature. Fixed: another one is another metric."""
        return self._temperature

    def measure(self, teacher, student_logits):
        return self._loss(teacher, student_logits) / self.temperature**2

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

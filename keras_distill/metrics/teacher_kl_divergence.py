import keras

from keras_distill.backend.keras_compat import set_direction
from keras_distill.losses.soft_target_kl_divergence import kl_divergence
from keras_distill.metrics.distillation_metric import TemperatureMetric


@keras.saving.register_keras_serializable(package="keras_distill")
class TeacherKLDivergence(TemperatureMetric):
    """Divergence of the student's probabilities from the teacher's.

    With p and q the softmax of the teacher's and of the student's logits at
    temperature T, the metric is the mean of

        sum_i p_i (log p_i - log q_i)

    in nats. It is 0 if p and q are equal. `SoftTargetKLDivergence` contains an
    additional factor T^2, which makes gradients comparable, but not values. For
    `TopKTargets` the metric compares the k classes and the rest.

    Example:

    ```python
    metric = keras_distill.metrics.TeacherKLDivergence(temperature=4.0)
    distiller.compile("adam", distillation_metrics=[metric])
    ```

    Args:
        temperature: Float from 1e-3 to 1e4. Defaults to `1.0`, the temperature
            at which the student is served. `TopKTargets` and the arithmetic
            mean of an `Ensemble` hold only at the temperatures they were made
            for.
        from_logits: As in `DistillationMetric`.
        teacher_from_logits: As in `DistillationMetric`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name. Defaults to `"teacher_kl_divergence"`.
        dtype: Dtype of the result. Defaults to `keras.backend.floatx()`.

    Returns:
        Float, at least 0.

    Raises:
        ValueError: If the temperature is out of range.
    """

    def measure_targets(self, targets, student_logits):
        log_p = targets.log_probabilities(self.temperature, self.axis)
        logits = targets.project(student_logits, self.temperature, self.axis)
        return kl_divergence(log_p, logits, self.axis)


set_direction(TeacherKLDivergence, "down")

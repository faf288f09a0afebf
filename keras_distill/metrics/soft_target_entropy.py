import keras
from keras import ops

from keras_distill.metrics.distillation_metric import TemperatureMetric


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargetEntropy(TemperatureMetric):
    """Entropy of the teacher's soft targets, in nats.

    The mean entropy of the softmax of the teacher's logits at temperature T. At
    0 the soft targets contain no more information than a label. At
    `log(classes)` all classes are equally likely. The metric depends on the
    teacher and the transfer set, and not on the student.

    Example:

    ```python
    metric = keras_distill.metrics.SoftTargetEntropy(temperature=4.0)
    distiller.compile("adam", distillation_metrics=[metric])
    ```

    Args:
        temperature: Float from 1e-3 to 1e4. Defaults to `1.0`. `TopKTargets`
            and the arithmetic mean of an `Ensemble` hold only at the
            temperatures they were made for.
        from_logits: As in `DistillationMetric`.
        teacher_from_logits: As in `DistillationMetric`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name. Defaults to `"soft_target_entropy"`.
        dtype: Dtype of the result. Defaults to `keras.backend.floatx()`.

    Returns:
        Float from 0 to the logarithm of the number of classes. For
        `TopKTargets` it is a lower bound, as all classes outside of the top k
        count as one class.

    Raises:
        ValueError: If the temperature is out of range.
    """

    def measure_targets(self, targets, student_logits):
        log_p = targets.log_probabilities(self.temperature, self.axis)
        return -ops.sum(ops.exp(log_p) * log_p, axis=self.axis)

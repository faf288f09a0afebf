"""How close a student is to its teacher, and how far to trust it."""

from keras_distill.identifiers import retrieve
from keras_distill.metrics.brier_score import BrierScore
from keras_distill.metrics.distillation_metric import DistillationMetric
from keras_distill.metrics.expected_calibration_error import (
    ExpectedCalibrationError,
)
from keras_distill.metrics.soft_target_entropy import SoftTargetEntropy
from keras_distill.metrics.teacher_agreement import TeacherAgreement
from keras_distill.metrics.teacher_kl_divergence import TeacherKLDivergence

__all__ = [
    "BrierScore",
    "DistillationMetric",
    "ExpectedCalibrationError",
    "SoftTargetEntropy",
    "TeacherAgreement",
    "TeacherKLDivergence",
    "get",
]

_BY_NAME = {
    "teacher_agreement": TeacherAgreement,
    "teacher_kl_divergence": TeacherKLDivergence,
    "soft_target_entropy": SoftTargetEntropy,
}


def get(identifier):
    """Retrieves a distillation metric from a name, a config or an instance.

    Example:

    ```python
    metric = keras_distill.metrics.get("teacher_agreement")
    ```

    Args:
        identifier: A `DistillationMetric`, its name in snake case or as the
            class is called (the metric then has its default arguments), or a
            config from `keras.saving.serialize_keras_object`.

    Returns:
        A `DistillationMetric`.

    Raises:
        ValueError: If the name is unknown, or the object is something else,
            such as a metric of `keras.metrics`.
    """
    return retrieve(
        identifier,
        DistillationMetric,
        _BY_NAME,
        argument="distillation_metrics",
        hint=(
            "Expected `distillation_metrics` to hold "
            "`keras_distill.metrics.DistillationMetric`s, such as "
            "`TeacherAgreement()`. Metrics that compare with the labels go to "
            "`metrics`."
        ),
    )

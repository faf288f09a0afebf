"""Metrics of agreement with a teacher, and of calibration."""

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
        identifier: A `DistillationMetric`, a config from
            `keras.saving.serialize_keras_object`, or a class name, also in
            snake case. A name gives a metric with the default arguments.

    Returns:
        A `DistillationMetric`.

    Raises:
        ValueError: If the name is unknown, or the object is of another kind,
            such as a metric of `keras.metrics`.
    """
    return retrieve(
        identifier,
        DistillationMetric,
        _BY_NAME,
        argument="distillation_metrics",
        hint=(
            "Expected `distillation_metrics` to contain instances of "
            "`keras_distill.metrics.DistillationMetric`, such as "
            "`TeacherAgreement()`. Pass metrics that compare with the labels "
            "as `metrics`."
        ),
    )

import keras
from keras import ops

from keras_distill.backend.keras_compat import set_direction
from keras_distill.metrics.distillation_metric import DistillationMetric
from keras_distill.validation import check_integer


@keras.saving.register_keras_serializable(package="keras_distill")
class TeacherAgreement(DistillationMetric):
    """How often student and teacher predict the same class.

    The fraction of samples for which the teacher's most likely class is among
    the `k` most likely classes of the student. It needs no labels.

    Example:

    ```python
    top_5 = keras_distill.metrics.TeacherAgreement(k=5)
    distiller.compile("adam", distillation_metrics=["teacher_agreement", top_5])
    distiller.fit(unlabelled_x, epochs=2)
    ```

    Args:
        k: Integer, at least 1. Defaults to `1`.
        from_logits: As in `DistillationMetric`.
        teacher_from_logits: As in `DistillationMetric`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name. Defaults to `"teacher_agreement"`, for `k` above 1
            with `"_top_k"`, such as `"teacher_agreement_top_5"`.
        dtype: Dtype of the result. Defaults to `keras.backend.floatx()`.

    Returns:
        Float in `[0, 1]`.

    Raises:
        ValueError: If `k` is not from 1 to the number of classes.
    """

    def __init__(
        self,
        k=1,
        from_logits=None,
        teacher_from_logits=None,
        axis=-1,
        name=None,
        dtype=None,
    ):
        k = check_integer("k", k, low=1)
        if name is None:
            name = "teacher_agreement" + (f"_top_{k}" if k > 1 else "")
        super().__init__(from_logits, teacher_from_logits, axis, name, dtype)
        self.k = k

    def measure_targets(self, targets, student_logits):
        student_logits = ops.moveaxis(student_logits, self.axis, -1)
        check_integer("k", self.k, low=1, high=student_logits.shape[-1])
        # Among equal logits, the first one counts, as in `argmax`.
        _, classes = ops.top_k(student_logits, self.k)
        expected = ops.cast(targets.most_likely(self.axis), "int32")
        agrees = ops.any(
            ops.equal(
                ops.expand_dims(expected, -1), ops.cast(classes, "int32")
            ),
            axis=-1,
        )
        # With a NaN there is no most likely class.
        unknown = ops.logical_or(
            ops.any(ops.isnan(targets.logits), axis=self.axis),
            ops.any(ops.isnan(student_logits), axis=-1),
        )
        agrees = ops.cast(agrees, student_logits.dtype)
        return ops.where(unknown, float("nan"), agrees)

    def get_config(self):
        return {**super().get_config(), "k": self.k}


set_direction(TeacherAgreement, "up")

import keras
from keras import ops

from keras_distill.backend.keras_compat import set_direction
from keras_distill.metrics.distillation_metric import DistillationMetric
from keras_distill.validation import check_integer
from keras_distill.validation import shapes_agree


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
        expected = targets.most_likely(self.axis)
        if not shapes_agree(expected.shape, classes.shape[:-1]):
            raise ValueError(
                "Expected the outputs of teacher and student to have the same "
                "shape. Received without the classes: teacher "
                f"{tuple(expected.shape)}, student {tuple(classes.shape[:-1])}"
            )
        agrees = ops.equal(
            ops.expand_dims(ops.cast(expected, "int32"), -1),
            ops.cast(classes, "int32"),
        )
        return ops.any(agrees, axis=-1)

    def get_config(self):
        return {**super().get_config(), "k": self.k}


set_direction(TeacherAgreement, "up")

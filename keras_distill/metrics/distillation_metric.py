import keras
from keras import ops

from keras_distill.backend.keras_internals import get_keras_mask
from keras_distill.logits import to_logits
from keras_distill.losses import DistillationLoss
from keras_distill.metrics.weights import flatten_weighted
from keras_distill.soft_targets import EnsembleTargets
from keras_distill.soft_targets import is_compound
from keras_distill.validation import check_flag


@keras.saving.register_keras_serializable(package="keras_distill")
class DistillationMetric(keras.metrics.Mean):
    """Base class of the metrics between a teacher's and a student's logits.

    The teacher's outputs are `y_true`, the student's are `y_pred`; the result
    is the mean over all samples (all positions, where the outputs have more
    axes), with sample weights and Keras masks.

    They go to `compile(distillation_metrics=[...])` of a `Distiller`, or to
    `metrics` of a model that is trained on teacher logits. To write a metric
    of your own, implement `measure`.

    Example:

    ```python
    import keras
    from keras import ops
    import keras_distill

    @keras.saving.register_keras_serializable()
    class LargestGap(keras_distill.metrics.DistillationMetric):
        def measure(self, teacher, student_logits):
            return ops.max(ops.abs(teacher - student_logits), axis=self.axis)

    distiller.compile("adam", distillation_metrics=[LargestGap()])
    ```

    Args:
        from_logits: Whether the student's outputs are logits (`True`) or
            probabilities. Defaults to `None`: in a `Distiller` as the
            distillation loss of the output has it, elsewhere logits. Of a
            model that ends in a recognised softmax a `Distiller` passes on
            the logits in either case.
        teacher_from_logits: The same for the teacher's. Defaults to `None`:
            as `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name of the metric.
        dtype: Dtype of the result. Defaults to `None`:
            `keras.backend.floatx()`.

    Raises:
        ValueError: If a flag is neither a bool nor `None`.
    """

    def __init__(
        self,
        from_logits=None,
        teacher_from_logits=None,
        axis=-1,
        name=None,
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        if teacher_from_logits is None:
            teacher_from_logits = from_logits
        for argument, flag in (
            ("from_logits", from_logits),
            ("teacher_from_logits", teacher_from_logits),
        ):
            if flag is not None:
                check_flag(argument, flag)
        self.from_logits = from_logits
        self.teacher_from_logits = teacher_from_logits
        self.axis = axis

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: The teacher's outputs, of shape `(batch, ..., classes)`;
                or `TopKTargets` or `EnsembleTargets`.
            y_pred: The student's outputs, of the same shape.
            sample_weight: Optional weights of shape `(batch,)` or
                `(batch, ...)`.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        mask = get_keras_mask(y_pred)
        if not is_compound(y_true):
            y_true = _to_floats(
                y_true,
                self.teacher_from_logits is not False,
                DistillationLoss.teacher_log_zero,
            )
        elif isinstance(y_true, EnsembleTargets) and not hasattr(
            self, "temperature"
        ):
            y_true = y_true.logits
        y_pred = _to_floats(
            y_pred,
            self.from_logits is not False,
            DistillationLoss.student_log_zero,
        )
        values = self.measure(y_true, y_pred)
        super().update_state(*flatten_weighted(values, sample_weight, mask))

    def measure(self, teacher, student_logits):
        """Returns the value of each sample.

        Args:
            teacher: Logits, a float tensor of shape `(batch, ..., classes)`;
                or `TopKTargets`; or, if the metric has a `temperature`,
                `EnsembleTargets`.
            student_logits: Float tensor of the same shape.

        Returns:
            Tensor of that shape without the axis of the classes.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has to implement "
            "`measure(teacher, student_logits)`."
        )

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "teacher_from_logits": self.teacher_from_logits,
            "axis": self.axis,
        }


def _to_floats(outputs, from_logits, log_zero):
    outputs = ops.convert_to_tensor(outputs)
    logits = to_logits(outputs, from_logits, log_zero)
    # Half precision has too few digits to sum.
    return ops.cast(logits, keras.backend.result_type(logits.dtype, "float32"))

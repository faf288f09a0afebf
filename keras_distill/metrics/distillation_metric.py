import keras
from keras import ops

from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import to_snake_case
from keras_distill.losses import DistillationLoss
from keras_distill.metrics.weights import to_weights
from keras_distill.targets import as_targets
from keras_distill.targets import count_classes
from keras_distill.targets import to_logits
from keras_distill.validation import check_flag
from keras_distill.validation import check_float_dtype
from keras_distill.validation import check_given
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperature
from keras_distill.validation import check_weight_rows
from keras_distill.validation import require_valid


@keras.saving.register_keras_serializable(package="keras_distill")
class DistillationMetric(keras.metrics.Mean):
    """Base class of the metrics between a teacher's and a student's logits.

    `y_true` is the teacher's outputs, and `y_pred` is the student's outputs.
    The result is the mean over all samples, or over all positions if the
    outputs have more axes. Sample weights and Keras masks are respected.

    Pass the metrics to `compile(distillation_metrics=[...])` of a `Distiller`,
    or to `metrics` of a model that is trained on a teacher's logits. To write
    your own metric, implement `measure`.

    Example:

    ```python
    @keras.saving.register_keras_serializable()
    class LargestGap(keras_distill.metrics.DistillationMetric):
        def measure(self, teacher_logits, student_logits):
            gap = keras.ops.abs(teacher_logits - student_logits)
            return keras.ops.max(gap, axis=self.axis)

    distiller.compile("adam", distillation_metrics=[LargestGap()])
    ```

    Args:
        from_logits: Whether the student's outputs are logits (`True`) or
            probabilities (`False`). Defaults to `None`: in a `Distiller`, the
            value of the loss, and logits behind a recognized softmax;
            elsewhere, logits.
        teacher_from_logits: The same for the teacher. Defaults to
            `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        name: Optional name of the metric.
        dtype: Dtype of the result. Defaults to `keras.backend.floatx()`.

    Raises:
        ValueError: If a flag is neither a bool nor `None`, or `axis` is not an
            integer.
    """

    def __init__(
        self,
        from_logits=None,
        teacher_from_logits=None,
        axis=-1,
        name=None,
        dtype=None,
    ):
        if name is None:
            # Keras would number it, and the logs get a new name each time.
            name = to_snake_case(type(self).__name__)
        super().__init__(name=name, dtype=dtype)
        check_float_dtype(self.dtype)
        if teacher_from_logits is None:
            teacher_from_logits = from_logits
        if from_logits is not None:
            check_flag("from_logits", from_logits)
        if teacher_from_logits is not None:
            check_flag("teacher_from_logits", teacher_from_logits)
        self.from_logits = from_logits
        self.teacher_from_logits = teacher_from_logits
        self.axis = check_integer("axis", axis)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: The teacher's outputs, of shape `(batch, ..., classes)`;
                or `TopKTargets` or `EnsembleTargets`.
            y_pred: The student's outputs, of the same shape.
            sample_weight: Optional weights, `(batch,)` or `(batch, ...)`.
        """
        check_given(y_true=y_true, y_pred=y_pred)
        y_true = keras.tree.map_structure(ops.convert_to_tensor, y_true)
        y_pred = ops.convert_to_tensor(y_pred)
        check_weight_rows(sample_weight, y_pred)
        mask = get_keras_mask(y_pred)
        if self.from_logits is False:
            y_pred = to_logits(y_pred, DistillationLoss.student_log_zero)
        targets = as_targets(y_true)
        y_pred = require_valid(
            self.are_valid_targets(
                targets, count_classes(y_pred.shape, self.axis)
            ),
            y_pred,
        )
        self.update(targets, y_pred, sample_weight, mask)

    def are_valid_targets(self, targets, num_classes):
        """Whether `Targets` hold at the temperature: a bool or a tensor."""
        if not hasattr(self, "temperature"):
            return True
        return targets.are_valid_at(self.temperature, num_classes)

    def update(self, targets, student_logits, sample_weight, mask):
        """Adds a batch of `Targets` and student logits."""
        # Sums in half precision lose too many digits.
        dtype = keras.backend.result_type(student_logits.dtype, "float32")
        targets = targets.to_logits(
            self.teacher_from_logits is not False,
            DistillationLoss.teacher_log_zero,
            dtype,
        )
        targets.check(student_logits.shape, self.axis)
        student_logits = ops.cast(student_logits, dtype)
        values = self.measure_targets(targets, student_logits)
        values = ops.cast(values, dtype)
        weights = to_weights(values, sample_weight, mask)
        # Entries with zero weight may be NaN.
        values = ops.where(weights == 0, 0.0, values)
        super().update_state(
            ops.reshape(values, (-1,)), ops.reshape(weights, (-1,))
        )

    def measure_targets(self, targets, student_logits):
        """Returns the value of each sample for `Targets` with logits."""
        return self.measure(targets.all_logits(), student_logits)

    def measure(self, teacher_logits, student_logits):
        """Returns the value of each sample.

        Args:
            teacher_logits: Float tensor of shape `(batch, ..., classes)`.
            student_logits: Float tensor of the same shape.

        Returns:
            Tensor of that shape without the axis of the classes.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has to implement "
            "`measure(teacher_logits, student_logits)`."
        )

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "teacher_from_logits": self.teacher_from_logits,
            "axis": self.axis,
        }


class TemperatureMetric(DistillationMetric):
    """Base class of the metrics at a temperature."""

    def __init__(
        self,
        temperature=1.0,
        from_logits=None,
        teacher_from_logits=None,
        axis=-1,
        name=None,
        dtype=None,
    ):
        super().__init__(from_logits, teacher_from_logits, axis, name, dtype)
        self._temperature = check_temperature("temperature", temperature)

    @property
    def temperature(self):
        """The temperature. It is fixed."""
        return self._temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

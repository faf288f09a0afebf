import keras
from keras import ops

from keras_distill.backend.keras_internals import to_snake_case
from keras_distill.logits import to_logits
from keras_distill.losses.conditions import require_temperature
from keras_distill.outputs import shapes_agree
from keras_distill.soft_targets import EnsembleTargets
from keras_distill.soft_targets import TopKTargets
from keras_distill.soft_targets import is_compound
from keras_distill.validation import check_axis
from keras_distill.validation import check_flag

# The logarithm of the smallest normal float32.
LOG_SMALLEST = -87.33654


@keras.saving.register_keras_serializable(package="keras_distill")
class DistillationLoss(keras.losses.Loss):
    """Base class of the losses between a teacher's and a student's logits.

    The teacher's outputs are `y_true`, the student's are `y_pred`. The loss
    has one value per sample (per position, where the outputs have more axes),
    and no gradient flows into the teacher's side. Mask, sample weights and
    reduction are those of `keras.losses.Loss`.

    To write a loss of your own, implement `compare`.

    Example:

    ```python
    import keras
    from keras import ops
    import keras_distill

    @keras.saving.register_keras_serializable()
    class Hinge(keras_distill.losses.DistillationLoss):
        def compare(self, teacher_logits, student_logits):
            gap = ops.abs(teacher_logits - student_logits)
            return ops.sum(ops.relu(gap - 1.0), axis=self.axis)
    ```

    Args:
        from_logits: Whether the outputs are logits. `False` means that they
            are probabilities, of which the logarithm is taken. A model that
            ends in a recognised softmax is distilled on its logits by the
            `Distiller` in either case. Defaults to `True`.
        teacher_from_logits: The same for `y_true` alone. Defaults to `None`,
            which means as `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: Optional name of the loss. Defaults to that of the class in
            snake case.
        dtype: Dtype of the computation. Defaults to `None`, which means
            `keras.backend.floatx()`: outputs in float16 and bfloat16 are cast
            up before anything else.

    Raises:
        ValueError: If a flag is not a bool or `axis` is not an integer.
    """

    # What the logarithm of a probability of exactly 0 is taken to be. A
    # teacher's zero has to stay one at every temperature; a student's is one
    # that underflowed, and its loss has to stay finite.
    teacher_log_zero = -1e30
    student_log_zero = LOG_SMALLEST

    def __init__(
        self,
        from_logits=True,
        teacher_from_logits=None,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        if name is None:
            # Keras would number it, and the logs have a new name each time.
            name = to_snake_case(type(self).__name__)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if teacher_from_logits is None:
            teacher_from_logits = from_logits
        check_flag("from_logits", from_logits)
        check_flag("teacher_from_logits", teacher_from_logits)
        self.from_logits = from_logits
        self.teacher_from_logits = teacher_from_logits
        self.axis = check_axis(axis)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if not is_compound(y_true):
            y_true = to_logits(
                y_true, self.teacher_from_logits, self.teacher_log_zero
            )
        if sample_weight is not None:
            # Keras multiplies it with a mask in place, in PyTorch.
            sample_weight = ops.copy(ops.convert_to_tensor(sample_weight))
        return super().__call__(
            y_true,
            to_logits(y_pred, self.from_logits, self.student_log_zero),
            sample_weight=sample_weight,
        )

    def call(self, y_true, y_pred):
        y_true = keras.tree.map_structure(ops.stop_gradient, y_true)
        if isinstance(y_true, TopKTargets):
            _check_top_k(y_true, y_pred.shape, self)
            return self.compare_top_k(y_true, y_pred)
        if isinstance(y_true, EnsembleTargets):
            # Averaged at 1 for a loss without a temperature.
            temperature = getattr(self, "temperature_variable", 1.0)
            y_true = require_temperature(
                y_true, ops.cast(temperature, self.dtype)
            )
        _check_shapes(y_true.shape, y_pred.shape, self.axis)
        return self.compare(y_true, y_pred)

    def compare(self, teacher_logits, student_logits):
        """Returns the loss of each sample.

        Args:
            teacher_logits: Tensor of shape `(batch, ..., classes)`.
            student_logits: Tensor of the same shape and dtype.

        Returns:
            Tensor of that shape without the axis of the classes.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has to implement "
            "`compare(teacher_logits, student_logits)`."
        )

    def compare_top_k(self, targets, student_logits):
        """Returns the loss of each sample from the teacher's top k logits.

        Args:
            targets: `keras_distill.TopKTargets`.
            student_logits: Tensor of shape `(batch, ..., classes)`.

        Returns:
            Tensor of that shape without the axis of the classes.
        """
        raise ValueError(
            f"{type(self).__name__} needs the logits of all classes. Of the "
            "top k `SoftTargetCrossentropy` and `SoftTargetKLDivergence` can "
            "be had. Received: y_true of type TopKTargets"
        )

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "teacher_from_logits": self.teacher_from_logits,
            "axis": self.axis,
            "dtype": self.dtype,
        }


def _check_top_k(targets, student_shape, loss):
    shape = tuple(targets.logits.shape)
    if loss.axis not in (-1, len(student_shape) - 1):
        raise ValueError(
            "Top-k targets have the classes in the last axis. "
            f"Received: axis={loss.axis}"
        )
    if keras.backend.result_type(loss.dtype, "float32") != loss.dtype:
        raise ValueError(
            "Top-k targets need a loss in float32, as half precision can not "
            f"count classes. Received: dtype={loss.dtype}"
        )
    if (
        not shapes_agree(shape[:-1], tuple(student_shape[:-1]))
        or not shape[-1] < student_shape[-1]
    ):
        raise ValueError(
            "Expected top-k targets of the student's shape, with fewer than "
            f"all of its classes. Received: logits of shape {shape}, and a "
            f"student's of {tuple(student_shape)}"
        )


def _check_shapes(teacher_shape, student_shape, axis):
    if len(teacher_shape) != len(student_shape):
        raise ValueError(
            "Expected the teacher's logits (`y_true`) and the student's "
            "(`y_pred`) to have the same rank; are these labels? Received "
            f"shapes: {tuple(teacher_shape)} and {tuple(student_shape)}"
        )
    if not -len(student_shape) <= axis < len(student_shape):
        raise ValueError(
            f"`axis={axis}` does not exist in outputs of shape "
            f"{tuple(student_shape)}."
        )
    if not shapes_agree(teacher_shape, student_shape):
        raise ValueError(
            "Expected the teacher's logits (`y_true`) and the student's "
            "(`y_pred`) to have the same shape, with the same number of "
            f"classes. Received shapes: {tuple(teacher_shape)} and "
            f"{tuple(student_shape)}"
        )
    if student_shape[axis] == 1:
        raise ValueError(
            "Expected at least two classes: the softmax of one logit is always "
            "1, and there is nothing to learn from it. For a binary classifier "
            "with one logit z use two, (0, z): "
            "`keras.ops.pad(z, [[0, 0], [1, 0]])`. Received: outputs of shape "
            f"{tuple(student_shape)}"
        )

import keras
from keras import ops

from keras_distill.losses.distillation_loss import DistillationLoss
from keras_distill.targets import LOG_SMALLEST
from keras_distill.targets import subtract_maximum


def logit_matching(teacher_logits, student_logits, axis=-1):
    """Returns half the mean squared difference of centered logits."""
    difference = student_logits - teacher_logits
    # The rounding error of the difference (Knuth's TwoSum), which is large if
    # only one model has logits with a large offset.
    back = difference - student_logits
    error = (student_logits - (difference - back)) - (teacher_logits + back)
    difference = subtract_maximum(difference, axis) + ops.stop_gradient(error)
    centered = difference - ops.mean(difference, axis=axis, keepdims=True)
    return 0.5 * ops.mean(ops.square(centered), axis=axis)


@keras.saving.register_keras_serializable(package="keras_distill")
class LogitMatching(DistillationLoss):
    """Squared difference of the logits: the limit of high temperatures.

    Per sample, with the teacher's logits `v`, the student's logits `z` and N
    classes:

        1/2 sum_i ((z_i - mean z) - (v_i - mean v))^2 / N

    The gradient with respect to `z` is `(z - v) / N`, centered. The gradient of
    `SoftTargetCrossentropy` approaches it as T grows (Hinton, Vinyals and Dean,
    2015, section 2.1, equations 3 and 4). All logits count, including very
    negative ones.

    Example:

    ```python
    distiller.compile(
        optimizer="adam",
        distillation_loss=keras_distill.losses.LogitMatching(),
    )
    ```

    Args:
        from_logits: Whether `y_true` and `y_pred` are logits (`True`, the
            default) or probabilities. The loss takes the logarithm of
            probabilities. A probability of exactly 0 counts as the smallest
            normal float32.
        teacher_from_logits: The same for `y_true` only. Defaults to `None`,
            which means the value of `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: Optional name of the loss.
        dtype: Dtype of the computation. Defaults to `None`, which means
            `keras.backend.floatx()`.

    Returns:
        A scalar, or a tensor of shape `(batch, ...)` with `reduction="none"`.

    Raises:
        ValueError: If an argument is not of the kind above. On call, if the
            outputs differ in shape.
    """

    # High temperatures have one limit, so there is none to set.
    temperature = property(lambda self: None)
    # The square of a lower logit would overflow.
    teacher_log_zero = LOG_SMALLEST

    def compare(self, teacher_logits, student_logits):
        return logit_matching(teacher_logits, student_logits, self.axis)

import keras
from keras import ops

from keras_distill.losses.distillation_loss import DistillationLoss
from keras_distill.temperature import LOG_SMALLEST


def logit_matching(teacher_logits, student_logits, axis=-1):
    """Half the mean squared difference of centred logits.

    With the teacher's logits `v`, the student's `z` and N classes:

        1/2 sum_i ((z_i - mean z) - (v_i - mean v))^2 / N

    For zero-mean logits its gradient `(z - v) / N` is the limit, for high
    temperatures, of that of the soft crossentropy times T^2 (Hinton, Vinyals
    and Dean, 2015, section 2.1, equations 3 and 4). A softmax does not see the
    mean of its logits, so both means are taken off here.

    Args:
        teacher_logits: Float tensor of shape `(..., classes)`.
        student_logits: Tensor of the same shape and dtype.
        axis: Axis of the classes. Defaults to `-1`.

    Returns:
        Tensor of shape `(...)`, at least 0.
    """
    difference = student_logits - teacher_logits
    centred = difference - ops.mean(difference, axis=axis, keepdims=True)
    return 0.5 * ops.mean(ops.square(centred), axis=axis)


@keras.saving.register_keras_serializable(package="keras_distill")
class LogitMatching(DistillationLoss):
    """Squared difference of the logits: the limit of high temperatures.

    Per sample, with the teacher's logits `v`, the student's `z`, N classes:

        1/2 sum_i ((z_i - mean z) - (v_i - mean v))^2 / N

    The gradient in `z` is `(z - v) / N`, centred: what the gradient of
    `SoftTargetCrossentropy` tends to as T grows (Hinton, Vinyals and Dean,
    2015, section 2.1). Every logit counts, the very negative ones too.

    Example:

    ```python
    distiller.compile(
        optimizer="adam",
        distillation_loss=keras_distill.losses.LogitMatching(),
    )
    ```

    Args:
        from_logits: Whether `y_true` and `y_pred` are logits (`True`, the
            default) or probabilities. Of probabilities the logarithm is
            taken; one of exactly 0 counts as the smallest normal float32.
        teacher_from_logits: The same for `y_true` alone. Defaults to `None`:
            as `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: Optional name of the loss.
        dtype: Dtype of the computation. Defaults to `None`:
            `keras.backend.floatx()`.

    Returns:
        A scalar, or a tensor of shape `(batch, ...)` under
        `reduction="none"`.

    Raises:
        ValueError: If an argument is not of the kind above, and on call if
            the outputs differ in shape.
    """

    # A square of the lowest logits would overflow.
    teacher_log_zero = LOG_SMALLEST

    def compare(self, teacher_logits, student_logits):
        return logit_matching(teacher_logits, student_logits, self.axis)

import keras
from keras import ops

from keras_distill.losses.soft_target_loss import SoftTargetLoss
from keras_distill.losses.temperature import soften


def soft_target_kl_divergence(
    teacher_logits, student_logits, temperature=1.0, axis=-1
):
    """Kullback-Leibler divergence of two softmaxes at a temperature, times T^2.

    With `p = softmax(v / T)` of the teacher's logits `v` and
    `q = softmax(z / T)` of the student's logits `z`:

        T^2 * sum_i p_i (log p_i - log q_i)

    That is the crossentropy less the teacher's entropy, which no student
    changes: the gradient in `z` is the same, `T (q - p)`. Both logarithms come
    from log-softmax, so nothing is clipped, and where `p_i` is 0 the term is.
    As `p` and `q` both sum to 1, `q_i - p_i` can be added to each term. None
    is negative then, and no digits cancel where student and teacher agree.

    Args:
        teacher_logits: Float tensor of shape `(..., classes)`.
        student_logits: Tensor of the same shape and dtype.
        temperature: Positive number or scalar tensor. Defaults to `1.0`.
        axis: Axis of the classes. Defaults to `-1`.

    Returns:
        Tensor of shape `(...)`, at least 0.
    """
    log_p = ops.log_softmax(
        soften(teacher_logits, temperature, axis), axis=axis
    )
    log_q = ops.log_softmax(
        soften(student_logits, temperature, axis), axis=axis
    )
    p = ops.exp(log_p)
    ratio = log_p - log_q
    # p * ratio - p + q, where close to each other without a difference of the
    # two. (There, as elsewhere `exp` would overflow.)
    close = ratio > -1.0
    close_ratio = ops.where(close, ratio, 0.0)
    terms = ops.where(
        close,
        p * (close_ratio + ops.expm1(-close_ratio)),
        p * ratio - p + ops.exp(log_q),
    )
    return ops.sum(terms, axis=axis) * temperature**2


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargetKLDivergence(SoftTargetLoss):
    """Kullback-Leibler divergence from the teacher's soft targets.

    Per sample, with `p` and `q` the teacher's and the student's softmax at
    temperature T:

        T^2 * sum_i p_i (log p_i - log q_i)

    The same gradient as `SoftTargetCrossentropy`, `T (q - p)`, and so the same
    training (Hinton, Vinyals and Dean, 2015, section 2). The value is 0 where
    the student agrees with the teacher, which makes it the easier one to read.

    Example:

    ```python
    distiller.compile(
        optimizer="adam",
        distillation_loss=keras_distill.losses.SoftTargetKLDivergence(4.0),
    )
    ```

    Args:
        temperature: Positive float, the T of both softmaxes. Defaults to
            `4.0`.
        from_logits: Whether `y_true` and `y_pred` are logits (`True`, the
            default) or probabilities. Of probabilities the logarithm is
            taken; a student's probability of exactly 0 counts as the smallest
            normal float32.
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

    def at_temperature(self, teacher_logits, student_logits, temperature):
        return soft_target_kl_divergence(
            teacher_logits, student_logits, temperature, self.axis
        )

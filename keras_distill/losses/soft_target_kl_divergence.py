import keras
from keras import ops

from keras_distill.losses.soft_target_loss import SoftTargetLoss


def kl_divergence(log_p, log_q, axis=-1):
    """Returns `sum_i p_i (log p_i - log q_i)` without cancellation.

    `p` and `q` both sum to 1, so `q_i - p_i` can be added to each term. Then no
    term is negative, and no digits cancel where `p` and `q` are close. Nothing
    is clipped, and the term is 0 where `p_i` is 0.

    Args:
        log_p: Float tensor: logarithms of the teacher's probabilities.
        log_q: Float tensor: logarithms of the student's probabilities.
        axis: Axis of the classes. Defaults to `-1`.
    """
    p = ops.exp(log_p)
    ratio = log_p - log_q
    # Where p and q are close, p * ratio - p + q without the difference of the
    # two. Elsewhere `exp` of this form would overflow.
    close = ratio > -1.0
    close_ratio = ops.where(close, ratio, 0.0)
    terms = ops.where(
        close,
        p * (close_ratio + ops.expm1(-close_ratio)),
        p * ratio - p + ops.exp(log_q),
    )
    return ops.sum(terms, axis=axis)


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

    def compare_distributions(self, log_p, student_logits):
        log_q = ops.log_softmax(student_logits, axis=self.axis)
        return kl_divergence(log_p, log_q, self.axis)

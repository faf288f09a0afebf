import keras
from keras import ops

from keras_distill.losses.distillation_loss import SoftTargetLoss
from keras_distill.targets import restore_infinity


def kl_divergence(log_p, logits, axis=-1):
    """Returns `sum_i p_i (log p_i - log q_i)`, with q the softmax of logits.

    `p` and `q` both sum to 1, so `q_i - p_i` can be added to each term. Then no
    term is negative, and no digits cancel where `p` and `q` are close. Nothing
    is clipped, and the term is 0 where `p_i` is 0. The divergence is infinite
    where only `q_i` is 0.
    """
    p = ops.exp(log_p)
    log_q = ops.log_softmax(logits, axis=axis)
    ratio = log_p - log_q
    # Where p and q are close, compute p * ratio - p + q without a difference of
    # p and q. Elsewhere `exp` of this form would overflow.
    close = ratio > -1.0
    close_ratio = ops.where(close, ratio, 0.0)
    terms = ops.where(
        close,
        p * (close_ratio + ops.expm1(-close_ratio)),
        p * ratio - p + ops.exp(log_q),
    )
    return restore_infinity(ops.sum(terms, axis=axis))


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargetKLDivergence(SoftTargetLoss):
    """Kullback-Leibler divergence from the teacher's soft targets.

    Per sample, with `p` and `q` the teacher's and the student's softmax at
    temperature T:

        T^2 * sum_i p_i (log p_i - log q_i)

    The gradient is `T (q - p)`, as for `SoftTargetCrossentropy`, so both losses
    train the same student (Hinton, Vinyals and Dean, 2015, section 2). This
    loss is easier to interpret: it is 0 if the student matches the teacher.

    Example:

    ```python
    distiller.compile(
        optimizer="adam",
        distillation_loss=keras_distill.losses.SoftTargetKLDivergence(4.0),
    )
    ```

    Args:
        temperature: Float from 1e-3 to 1e4, the T of both softmaxes. Defaults
            to `4.0`.
        from_logits: Whether `y_true` and `y_pred` are logits (`True`, the
            default) or probabilities. The loss takes the logarithm of
            probabilities. A student's probability of exactly 0 counts as the
            smallest normal float32. A student's logit of minus infinity makes
            the loss infinite, unless the teacher also has it.
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

    def compare_distributions(self, log_p, logits):
        return kl_divergence(log_p, logits, self.axis)

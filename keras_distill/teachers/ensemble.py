import math

from keras import ops

from keras_distill.losses.soft_target_loss import soften


def arithmetic_mean_logits(member_logits, temperature=1.0, axis=-1):
    """Logits whose softmax is the mean of the members' softmaxes.

    With the logits `v_k` of K members and the temperature T:

        v = T * log(1/K sum_k softmax(v_k / T))

    so that `softmax(v / T)` is the arithmetic mean of the members' soft
    targets (Hinton, Vinyals and Dean, 2015, section 2: "the arithmetic or
    geometric mean of their individual predictive distributions"). Computed
    with log-sum-exp, which no small probability underflows.

    Args:
        member_logits: List of tensors of one shape, `(..., classes)`, and
            one dtype.
        temperature: Positive number or scalar tensor. Defaults to `1.0`.
        axis: Axis of the classes. Defaults to `-1`.

    Returns:
        Tensor of shape `(..., classes)`, at most 0.
    """
    log_probabilities = ops.stack(
        [
            ops.log_softmax(soften(logits, temperature, axis), axis=axis)
            for logits in member_logits
        ]
    )
    log_mean = ops.logsumexp(log_probabilities, axis=0) - math.log(
        len(member_logits)
    )
    return temperature * log_mean

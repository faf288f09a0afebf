from keras import ops

from keras_distill.losses.conditions import select_log_sum_exp
from keras_distill.losses.temperature import soften

# A logit, or the logarithm of a probability, that adds nothing to a sum.
_LOWEST = -1e30


def top_k_buckets(targets, student_logits, temperature):
    """Sorts the classes into k buckets of one each, and one of all the rest.

    With K the k classes that are known of the teacher, `v` and `z` the logits
    of teacher and student at temperature T, and `log_sum_exp` over all classes:

        log p_i = v_i / T - log_sum_exp           for i in K
        log p_rest = log(1 - sum_K p_i)

    The student's logits of the buckets are `z_i / T` for i in K, and for the
    rest `log sum_{j not in K} exp(z_j / T)`, so that their softmax is `q_i` and
    `q_rest = 1 - sum_K q_i`, without a difference in which digits cancel.

    The losses compare these k + 1 probabilities. What teacher and student say
    within the rest is not compared: of the crossentropy and of the divergence
    this is a lower bound, which is reached where both distribute the rest
    alike. The gradient of the crossentropy times T^2 in the student's logits
    is

        T (q_i - p_i)                  for i in K
        T q_j (1 - p_rest / q_rest)    for the others

    that is, where the rest has too little mass all of it is raised in
    proportion.

    Args:
        targets: `TopKTargets` with tensors of the dtype of the student's.
        student_logits: Float tensor of shape `(batch, ..., classes)`.
        temperature: Positive number or scalar tensor.

    Returns:
        Logits of teacher and student at the temperature, each of shape
        `(batch, ..., k + 1)`; the softmax of the first is `p`, of the second
        is `q`.

    Raises:
        NumericsError: If the targets were not made for the temperature or for
            as many classes.
    """
    classes = ops.cast(targets.classes, "int32")
    num_classes = student_logits.shape[-1]
    teacher = teacher_buckets(targets, temperature, num_classes)
    softened = soften(student_logits, temperature)
    rest = ops.logsumexp(_lower(softened, classes), axis=-1, keepdims=True)
    top = ops.take_along_axis(softened, classes, axis=-1)
    return teacher, ops.concatenate([top, rest], axis=-1)


def teacher_buckets(targets, temperature, num_classes):
    """Returns the teacher's half of `top_k_buckets`.

    Args:
        targets: As in `top_k_buckets`.
        temperature: As in `top_k_buckets`.
        num_classes: Integer, the classes of the student.

    Returns:
        Float tensor of shape `(batch, ..., k + 1)`: the logarithms of the
        probabilities of the k classes, and of the rest.
    """
    log_sum_exp = select_log_sum_exp(targets, temperature, num_classes)
    log_p = targets.logits / temperature - log_sum_exp
    return ops.concatenate([log_p, _log_rest(log_p)], axis=-1)


def _log_rest(log_p):
    """Returns the logarithm of what some probabilities leave of 1."""
    rest = -ops.expm1(ops.logsumexp(log_p, axis=-1, keepdims=True))
    # Rounding may leave less than nothing.
    positive = rest > 0
    return ops.where(positive, ops.log(ops.where(positive, rest, 1.0)), _LOWEST)


def _lower(logits, classes):
    """Returns the logits with those of some classes at minus infinity."""
    shape = ops.shape(logits)
    k = classes.shape[-1]
    rows = ops.reshape(logits, (-1, shape[-1]))
    columns = ops.reshape(classes, (-1,))
    owners = ops.repeat(ops.arange(ops.shape(rows)[0], dtype="int32"), k)
    lowered = ops.scatter_update(
        rows,
        ops.stack([owners, columns], axis=-1),
        ops.full((ops.shape(columns)[0],), _LOWEST, dtype=rows.dtype),
    )
    return ops.reshape(lowered, shape)

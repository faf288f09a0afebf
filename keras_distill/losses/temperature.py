from keras import ops

from keras_distill.validation import check_number


def soften(logits, temperature, axis=-1):
    """Returns logits whose softmax is `softmax(logits / temperature)`.

    Hinton, Vinyals and Dean (2015), equation 1. The maximum of each row is
    taken off before the division: of two large logits the difference is what
    counts, and it is exact, while the difference of two rounded quotients is
    not (with logits of 1e4 it loses four digits in float32).

    Args:
        logits: Float tensor.
        temperature: Positive number or scalar tensor.
        axis: Axis of the classes.

    Returns:
        Tensor of the same shape, at most 0, with a 0 in each row.
    """
    logits = ops.convert_to_tensor(logits)
    largest = ops.max(logits, axis=axis, keepdims=True)
    return (logits - ops.stop_gradient(largest)) / temperature


def check_temperature(argument, value):
    """Returns a valid temperature as a float; raises `ValueError` else."""
    return check_number(argument, value, low=0, low_allowed=False)

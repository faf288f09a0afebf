"""Logits and probabilities at a temperature."""

import keras
from keras import ops

from keras_distill.validation import check_number

# The logarithm of the smallest normal float32: a probability that underflowed.
LOG_SMALLEST = -87.33654


def soften(logits, temperature, axis=-1):
    """Returns logits whose softmax is `softmax(logits / temperature)`.

    Hinton, Vinyals and Dean (2015), equation 1. The maximum of each row is
    subtracted before the division. The difference of two large logits is exact,
    while the difference of two rounded quotients is not: with logits of 1e4 it
    loses four digits in float32.

    Args:
        logits: Float tensor.
        temperature: Positive number or scalar tensor.
        axis: Axis of the classes. Defaults to `-1`.

    Returns:
        Tensor of the same shape. The largest value of each row is 0.
    """
    logits = ops.convert_to_tensor(logits)
    largest = ops.max(logits, axis=axis, keepdims=True)
    return (logits - ops.stop_gradient(largest)) / temperature


def to_logits(probabilities, log_zero):
    """Returns the logarithm of probabilities, with `log_zero` for log(0)."""
    # Half precision has too few digits for a logarithm.
    dtype = keras.backend.result_type(probabilities.dtype, "float32")
    probabilities = ops.cast(probabilities, dtype)
    positive = probabilities > 0
    # The inner `where` keeps log(0) out of the gradient of the outer one.
    logarithm = ops.log(ops.where(positive, probabilities, 1.0))
    return ops.where(positive, logarithm, log_zero)


def check_temperature(argument: str, value) -> float:
    """Returns a valid temperature as a float."""
    return check_number(argument, value, low=0, low_allowed=False)

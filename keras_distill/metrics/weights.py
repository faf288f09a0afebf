from keras import ops


def to_weights(values, *weights):
    """Multiplies weights, or `None`, to one weight for each of `values`."""
    product = ops.ones_like(values)
    for weight in weights:
        if weight is not None:
            weight = _align(ops.cast(weight, values.dtype), values)
            product *= ops.broadcast_to(weight, ops.shape(values))
    return product


def _align(weight, values):
    """Gives weights the rank of the values."""
    missing = len(values.shape) - len(weight.shape)
    if missing == -1 and weight.shape[-1] == 1:
        return ops.squeeze(weight, -1)
    if missing < 0:
        raise ValueError(
            "Expected `sample_weight` to have one number for each sample, or "
            f"for each position. Received: shape {tuple(weight.shape)}, for "
            f"values of shape {tuple(values.shape)}"
        )
    return ops.reshape(weight, (*ops.shape(weight), *[1] * missing))

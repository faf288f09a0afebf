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
    rank = len(values.shape)
    if len(weight.shape) == rank + 1 and weight.shape[-1] == 1:
        return ops.squeeze(weight, -1)
    if len(weight.shape) > rank:
        raise ValueError(
            "Expected `sample_weight` to have one number for each sample, or "
            f"for each position. Received: shape {tuple(weight.shape)}, for "
            f"values of shape {tuple(values.shape)}"
        )
    for _ in range(rank - len(weight.shape)):
        weight = ops.expand_dims(weight, -1)
    return weight

from keras import ops


def flatten_weighted(values, sample_weight, mask):
    """Returns values and weights (or `None`) of rank 1 for a mean."""
    weights = None
    for weight in (sample_weight, mask):
        if weight is None:
            continue
        weight = _align(ops.cast(weight, values.dtype), values)
        weights = weight if weights is None else weights * weight
    if weights is not None:
        weights = ops.reshape(
            ops.broadcast_to(weights, ops.shape(values)), (-1,)
        )
        # Entries with zero weight may be NaN.
        values = ops.where(weights == 0, 0.0, ops.reshape(values, (-1,)))
    return ops.reshape(values, (-1,)), weights


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

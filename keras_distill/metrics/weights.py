from keras import ops


def flatten_weighted(values, sample_weight, mask):
    """Returns values and weights that `keras.metrics.Mean` takes as they are.

    Args:
        values: Float tensor of shape `(batch, ...)`: one for each sample or
            position.
        sample_weight: Weights of shape `(batch,)` up to that of the values, or
            `None`.
        mask: Boolean tensor of the positions that count, or `None`.

    Returns:
        Tensors of rank 1; the second is `None` where all weigh the same.
    """
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
        # What weighs nothing may be anything.
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

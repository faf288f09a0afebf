"""The elements of datasets: `x`, `(x, y)` or `(x, y, sample_weight)`."""

import keras

from keras_distill.targets import WithSoftTargets

# The default batch size of `fit`.
FIT_BATCH_SIZE = 32


def to_tuple(element) -> tuple:
    """Returns an element as a tuple of one to three parts."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def arrays_to_tuple(arrays) -> tuple:
    """Returns arrays as one element. A list is several inputs, as in `fit`."""
    return to_tuple((arrays,) if isinstance(arrays, list) else arrays)


def to_floatx(array):
    """Returns an array with the dtype that Keras gives it in `fit`."""
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    floatx = keras.config.floatx()
    return array.astype(floatx, copy=False) if is_float else array


def join_soft_targets(element, soft_targets) -> tuple:
    """Returns an element with soft targets beside its inputs."""
    x, *rest = to_tuple(element)
    return WithSoftTargets(x, soft_targets), *rest


def refuse_soft_targets(element) -> None:
    """Refuses an element that has soft targets already."""
    x = element[0] if isinstance(element, (list, tuple)) else element
    if WithSoftTargets in (type(element), type(x)):
        raise ValueError(
            "Expected a dataset without soft targets. Received: elements of "
            "type WithSoftTargets"
        )


def is_endless(data) -> bool:
    """Whether data is a `keras.utils.PyDataset` that has no last batch."""
    return isinstance(data, keras.utils.PyDataset) and data.num_batches is None


def describe_inputs(x, batched: bool) -> list[dict]:
    """Returns shape and dtype of the inputs of one example, for JSON.

    The shape is `None` if it is unknown.

    Args:
        x: Inputs: arrays, tensors or their specs.
        batched: Whether they have the axis of a batch.
    """
    return [
        {
            "shape": _list_sizes(tensor.shape, batched),
            "dtype": tensor.dtype.name,
        }
        for tensor in keras.tree.flatten(x)
    ]


def _list_sizes(shape, batched):
    if getattr(shape, "rank", 0) is None:
        return None
    return list(shape[1:] if batched else shape)

"""The elements of datasets: `x`, `(x, y)` or `(x, y, sample_weight)`."""

import keras

from keras_distill.targets import WithSoftTargets
from keras_distill.validation import check_integer

# The default batch size of `fit`.
FIT_BATCH_SIZE = 32


def to_tuple(element) -> tuple:
    """Returns an element without soft targets as one to three parts."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
    if WithSoftTargets in (type(element), type(x)):
        raise ValueError(
            "Expected a dataset without soft targets. Received: elements of "
            "type WithSoftTargets"
        )
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def arrays_to_tuple(arrays) -> tuple:
    """Returns arrays as one element. A list is several inputs, as in `fit`."""
    if not keras.tree.flatten(arrays) or arrays is None:
        raise ValueError(
            "Expected data: arrays, a dataset, a `keras.utils.PyDataset` or a "
            f"generator. Received: {arrays!r}"
        )
    counts = dict.fromkeys(
        array.shape[:1]
        for array in keras.tree.flatten(arrays)
        if array is not None
    )
    if len(counts) > 1 or () in counts:
        raise ValueError(
            "Expected arrays with the same number of examples. Received: "
            f"{[count[0] if count else 'a scalar' for count in counts]}"
        )
    return to_tuple((arrays,) if isinstance(arrays, list) else arrays)


def to_floatx(array):
    """Returns an array with the dtype that Keras gives it in `fit`."""
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    floatx = keras.config.floatx()
    return array.astype(floatx, copy=False) if is_float else array


def add_soft_targets(element, soft_targets) -> tuple:
    """Returns an element with soft targets beside its inputs."""
    x, *rest = to_tuple(element)
    return WithSoftTargets(x, soft_targets), *rest


def check_batch_size(batch_size, batched: bool) -> None:
    """Raises unless `batch_size` is valid, and `None` for data in batches."""
    if batch_size is None:
        return
    check_integer("batch_size", batch_size, low=1)
    if batched:
        raise ValueError(
            "The dataset has batches already. "
            f"Received: batch_size={batch_size}"
        )


def is_endless(data) -> bool:
    """Whether data is a `keras.utils.PyDataset` that has no last batch."""
    return isinstance(data, keras.utils.PyDataset) and data.num_batches is None


def describe_inputs(x, batched: bool) -> list[dict]:
    """Returns shape (or `None`) and dtype of each example, for JSON."""
    return [
        {
            "shape": None
            if getattr(tensor.shape, "rank", 0) is None
            else list(tensor.shape)[batched:],
            "dtype": tensor.dtype.name,
        }
        for tensor in keras.tree.flatten(x)
    ]

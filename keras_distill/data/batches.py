"""Any data that `fit` takes, as batches to loop over."""

import keras

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import get_data_adapter
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.targets import WithSoftTargets
from keras_distill.validation import check_integer

# For arrays: what needs no gradient may have larger batches than `fit`.
_BATCH_SIZE = 128


def to_batches(data, batch_size=None):
    """Returns whatever `fit` takes as an iterable of batches.

    Args:
        data: As in `pipelines.to_examples`.
        batch_size: Integer, or `None`.

    Returns:
        Iterable of tuples `(x,)`, `(x, y)` or `(x, y, sample_weight)`, and
        their number or `None`.

    Raises:
        ValueError: If `batch_size` is given for batches, or there is no end.
    """
    if USES_TF_DATA or is_tf_dataset(data):
        return _from_pipeline(data, batch_size)
    if is_endless(data):
        raise ValueError(f"Expected a dataset that ends. Received: {data!r}")
    if batch_size is not None:
        check_integer("batch_size", batch_size, low=1)
    arrays = can_convert_arrays(data)
    if batch_size is not None and not arrays:
        raise ValueError(
            f"The data has batches already. Received: batch_size={batch_size}"
        )
    if arrays:
        adapter = get_data_adapter(
            *keras.utils.unpack_x_y_sample_weight(data),
            batch_size=batch_size or _BATCH_SIZE,
        )
    else:
        adapter = get_data_adapter(data)
    return map(_to_tuple, adapter.get_numpy_iterator()), adapter.num_batches


def refuse_soft_targets(element) -> None:
    """Refuses a dataset whose elements have soft targets already."""
    x = element[0] if isinstance(element, (list, tuple)) else element
    if WithSoftTargets in (type(element), type(x)):
        raise ValueError(
            "Expected a dataset without soft targets. Received: elements of "
            "type WithSoftTargets"
        )


def join_soft_targets(x, y, sample_weight, soft_targets):
    """Returns a batch as an element of a dataset with soft targets."""
    x = WithSoftTargets(x, soft_targets)
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def is_endless(data):
    """Whether data is a `keras.utils.PyDataset` that has no last batch."""
    return isinstance(data, keras.utils.PyDataset) and data.num_batches is None


def to_floatx(array):
    """Returns an array with the dtype that Keras gives it in `fit`.

    Args:
        array: NumPy array.
    """
    floatx = keras.config.floatx()
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(floatx, copy=False) if is_float else array


def _from_pipeline(data, batch_size):
    from keras_distill.transfer import pipelines

    examples = pipelines.to_examples(data, batch_size, None, None, _BATCH_SIZE)
    batches = pipelines.in_batches(examples, examples.batch_size)
    length = int(batches.cardinality())
    return batches, length if length >= 0 else None


def _to_tuple(batch):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)

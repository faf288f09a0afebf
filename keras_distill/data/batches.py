"""Data of any kind that `fit` accepts, as batches to loop over."""

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import get_data_adapter
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.data.elements import arrays_to_tuple
from keras_distill.data.elements import is_endless
from keras_distill.data.elements import to_tuple
from keras_distill.validation import check_integer

# For arrays. Without gradients, batches can be larger than those of `fit`.
_BATCH_SIZE = 128


def to_batches(data, batch_size=None, default_batch_size=_BATCH_SIZE):
    """Returns data of any kind as an iterable of batches.

    Args:
        data: Inputs as arrays (a list is several inputs), a tuple `(x, y)` or
            `(x, y, sample_weight)` of arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or a generator of batches.
        batch_size: Integer for arrays and datasets of single examples.
        default_batch_size: The batch size without it.

    Returns:
        Iterable of tuples `(x,)`, `(x, y)` or `(x, y, sample_weight)`, and
        the number of batches, or `None` if it is unknown.

    Raises:
        ValueError: If `batch_size` is passed for batches, or there is no end.
    """
    if USES_TF_DATA or is_tf_dataset(data):
        from keras_distill.data import pipelines

        examples = pipelines.to_examples(
            data, batch_size, None, None, default_batch_size
        )
        batches = pipelines.in_batches(examples, examples.batch_size)
        length = int(batches.cardinality())
        return batches, length if length >= 0 else None
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
            *arrays_to_tuple(data),
            batch_size=batch_size or default_batch_size,
        )
    else:
        adapter = get_data_adapter(data)
    return map(to_tuple, adapter.get_numpy_iterator()), adapter.num_batches

"""Data of any kind that `fit` accepts, as batches to loop over."""

import contextlib
import traceback

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import get_data_adapter
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.data.elements import arrays_to_tuple
from keras_distill.data.elements import check_batch_size
from keras_distill.data.elements import is_endless
from keras_distill.data.elements import to_tuple

# For arrays. Without gradients, batches can be larger than in `fit`.
_BATCH_SIZE = 128


def to_batches(data, batch_size=None, default_batch_size=_BATCH_SIZE):
    """Returns an iterable of batches, and their number or `None`."""
    if USES_TF_DATA or is_tf_dataset(data):
        from keras_distill.data import pipelines

        examples = pipelines.to_examples(
            data, batch_size, None, None, default_batch_size
        )
        batches = examples.in_batches(examples.batch_size)
        length = int(batches.cardinality())
        return batches, length if length >= 0 else None
    if is_endless(data):
        raise ValueError(f"Expected a dataset that ends. Received: {data!r}")
    is_batched = not can_convert_arrays(data)
    check_batch_size(batch_size, is_batched)
    if is_batched:
        adapter = get_data_adapter(data)
    else:
        adapter = get_data_adapter(
            *arrays_to_tuple(data),
            batch_size=batch_size or default_batch_size,
        )
    return map(to_tuple, adapter.get_numpy_iterator()), adapter.num_batches


@contextlib.contextmanager
def closing_iterator(iterable):
    """Yields an iterator that no error leaves open."""
    iterator = iter(iterable)
    try:
        yield iterator
    except BaseException as error:
        # A traceback keeps the variables of its frames. An open iterator of
        # `tf.data` among them has threads that can block the exit.
        for frame, _ in traceback.walk_tb(error.__traceback__):
            package, *_ = frame.f_globals.get("__name__", "").split(".")
            if package in ("keras_distill", "tensorflow"):
                with contextlib.suppress(RuntimeError):
                    frame.clear()
        raise
    finally:
        iterator.close()

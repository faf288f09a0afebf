"""Soft targets joined to batches without `tf.data`."""

import keras
import numpy as np

from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.data.batches import is_endless
from keras_distill.data.batches import join_soft_targets
from keras_distill.data.batches import refuse_soft_targets
from keras_distill.data.batches import to_floatx
from keras_distill.transfer.shards import refuse
from keras_distill.validation import check_integer

_FIT_BATCH_SIZE = 32


class PairedBatches(keras.utils.PyDataset):
    """Batches of a transfer set, with their soft targets beside the labels.

    Args:
        data: Arrays, a tuple `(x, y)` or `(x, y, sample_weight)` of these, or
            a `keras.utils.PyDataset` of batches of the same size.
        batch_size: Integer for arrays, or `None`: 32.
        find: Function of the position of the first example in a batch and of
            their number, that returns the fingerprints and the arrays, in flat
            order, of the soft targets of so many.
        decoded: A batch of soft targets, for its structure.
        compared: The number of examples in a batch whose inputs are compared:
            the first ones. Defaults to `None`: all.

    Raises:
        ValueError: If the data is something else, or `batch_size` is given for
            batches.
    """

    def __init__(self, data, batch_size, find, decoded, compared=None):
        super().__init__(
            **{
                name: getattr(data, name)
                for name in ("workers", "use_multiprocessing", "max_queue_size")
                if hasattr(data, name)
            }
        )
        self._batches = _to_sequence(data, batch_size)
        self._find = find
        self._decoded = decoded
        self._compared = compared
        if is_endless(data):
            raise ValueError(
                "Expected a `keras.utils.PyDataset` that ends. "
                f"Received: {data!r}"
            )
        self._count = self._batches.num_batches
        refuse_soft_targets(self._batches[0])
        first, *_ = keras.utils.unpack_x_y_sample_weight(self._batches[0])
        flat = keras.tree.flatten(first)
        # All batches but the last are as large.
        self._batch_size = len(flat[0])
        self.inputs = [
            {"shape": list(each.shape[1:]), "dtype": str(each.dtype)}
            for each in map(np.asarray, flat)
        ]

    def __len__(self):
        return self._count

    @property
    def num_batches(self):
        return len(self)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(
                f"There are {len(self)} batches. Received: {index}"
            )
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            self._batches[index]
        )
        position = index * self._batch_size
        count = len(keras.tree.flatten(x)[0])
        if count != self._batch_size and index + 1 < len(self):
            raise ValueError(
                "Expected batches of the same size, all but the last. "
                f"Received: a batch of {count} at index {index}, where the "
                f"first has {self._batch_size}"
            )
        expected, *flat = self._find(position, count)
        compared = keras.tree.map_structure(lambda x: x[: self._compared], x)
        fingerprints = fingerprint_examples(compared)
        differ = fingerprints != expected[: self._compared]
        if differ.any():
            refuse(position + int(np.argmax(differ)))
        soft_targets = keras.tree.pack_sequence_as(self._decoded, flat)
        return join_soft_targets(x, y, sample_weight, soft_targets)

    def on_epoch_begin(self):
        if isinstance(self._batches, keras.utils.PyDataset):
            self._batches.on_epoch_begin()

    def on_epoch_end(self):
        if isinstance(self._batches, keras.utils.PyDataset):
            self._batches.on_epoch_end()


class _Slices:
    """Arrays, cut into batches."""

    def __init__(self, arrays, batch_size):
        self._arrays = arrays
        self._batch_size = batch_size
        self._examples = len(keras.tree.flatten(arrays)[0])

    @property
    def num_batches(self):
        return -(-self._examples // self._batch_size)

    def __getitem__(self, index):
        start = index * self._batch_size
        return keras.tree.map_structure(
            lambda array: to_floatx(array[start : start + self._batch_size]),
            self._arrays,
        )


def _to_sequence(data, batch_size):
    if batch_size is not None:
        check_integer("batch_size", batch_size, low=1)
    if can_convert_arrays(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        arrays = keras.tree.map_structure(
            np.asarray, keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        )
        if not isinstance(arrays, tuple):
            arrays = (arrays,)
        return _Slices(arrays, batch_size or _FIT_BATCH_SIZE)
    if not isinstance(data, keras.utils.PyDataset):
        raise ValueError(
            "Expected arrays, a `keras.utils.PyDataset` of batches, or a "
            "`tf.data.Dataset`: what comes once and in one order can not be "
            f"paired again in the next epoch. Received: {data!r}"
        )
    if batch_size is not None:
        raise ValueError(
            "The dataset has batches already. "
            f"Received: batch_size={batch_size}"
        )
    return data


def fingerprint_examples(x):
    """Returns a hash of each example in a batch, as `pipelines` does.

    Args:
        x: Inputs of a batch: arrays of numbers.

    Returns:
        Array of shape `(batch,)` and dtype uint32.

    Raises:
        ImportError: If the package `pyfarmhash` is not installed.
    """
    try:
        import farmhash
    except ImportError:
        raise ImportError(
            "To compare inputs with those that were labelled, without "
            "TensorFlow, needs FarmHash: `pip install pyfarmhash`."
        ) from None

    def hash_rows(array):
        rows = np.ascontiguousarray(array).reshape(len(array), -1)
        return np.array(
            [farmhash.fingerprint64(row.tobytes()) for row in rows], "uint64"
        )

    hashes = [hash_rows(np.asarray(each)) for each in keras.tree.flatten(x)]
    if len(hashes) > 1:
        hashes = [hash_rows(np.stack(hashes, axis=-1))]
    return hashes[0].astype("uint32")

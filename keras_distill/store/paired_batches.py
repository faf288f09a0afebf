"""Joins soft targets to batches without `tf.data`."""

import keras
import numpy as np

from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.data import elements
from keras_distill.store.example_fingerprints import fingerprint_examples
from keras_distill.store.reader import StoreReader
from keras_distill.store.shards import raise_mismatch


class PairedBatches(keras.utils.PyDataset):
    """Batches with soft targets; `compared` inputs of each are compared."""

    def __init__(self, reader: StoreReader, data, batch_size, compared=None):
        self._batches = _to_py_dataset(data, batch_size)
        super().__init__(
            workers=self._batches.workers,
            use_multiprocessing=self._batches.use_multiprocessing,
            max_queue_size=self._batches.max_queue_size,
        )
        self._reader = reader
        self._compared = compared
        self._count = self._batches.num_batches
        first, *_ = elements.to_tuple(self._batches[0])
        flat = list(map(np.asarray, keras.tree.flatten(first)))
        reader.check_inputs(elements.describe_inputs(flat, batched=True))
        # All batches except the last one have this size.
        self._batch_size = len(flat[0])

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(
                f"There are {len(self)} batches. Received: {index}"
            )
        element = self._batches[index]
        x, *_ = elements.to_tuple(element)
        position = index * self._batch_size
        count = len(keras.tree.flatten(x)[0])
        if count != self._batch_size and index + 1 < len(self):
            raise ValueError(
                "Expected batches of the same size, except for the last one. "
                f"Received: a batch of {count} at index {index}, after a first "
                f"batch of {self._batch_size}"
            )
        expected, *flat = self._reader.find(0, position, count, exactly=True)
        compared = keras.tree.map_structure(lambda x: x[: self._compared], x)
        differ = fingerprint_examples(compared) != expected[: self._compared]
        if differ.any():
            raise_mismatch(position + int(np.argmax(differ)))
        return elements.add_soft_targets(
            element, keras.tree.pack_sequence_as(self._reader.example, flat)
        )

    def on_epoch_begin(self):
        self._batches.on_epoch_begin()

    def on_epoch_end(self):
        self._batches.on_epoch_end()


class _Slices(keras.utils.PyDataset):
    """Batches of arrays."""

    def __init__(self, arrays, batch_size):
        super().__init__()
        self._arrays = keras.tree.map_structure(np.asarray, arrays)
        self._batch_size = batch_size

    def __len__(self):
        examples = len(keras.tree.flatten(self._arrays)[0])
        return -(-examples // self._batch_size)

    def __getitem__(self, index):
        start = index * self._batch_size
        rows = slice(start, start + self._batch_size)
        return keras.tree.map_structure(
            lambda array: elements.to_floatx(array[rows]), self._arrays
        )


def _to_py_dataset(data, batch_size):
    is_batched = not can_convert_arrays(data)
    elements.check_batch_size(batch_size, is_batched)
    if not is_batched:
        batch_size = batch_size or elements.FIT_BATCH_SIZE
        return _Slices(elements.arrays_to_tuple(data), batch_size)
    is_dataset = isinstance(data, keras.utils.PyDataset)
    if is_dataset and not elements.is_endless(data):
        return data
    raise ValueError(
        "Expected arrays, a `keras.utils.PyDataset` of batches that ends, or a "
        "`tf.data.Dataset`. Other data cannot be read again in the same order. "
        f"Received: {data!r}"
    )

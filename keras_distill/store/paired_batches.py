"""Joins soft targets to batches without `tf.data`."""

import keras
import numpy as np

from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.data.elements import FIT_BATCH_SIZE
from keras_distill.data.elements import arrays_to_tuple
from keras_distill.data.elements import describe_inputs
from keras_distill.data.elements import is_endless
from keras_distill.data.elements import join_soft_targets
from keras_distill.data.elements import refuse_soft_targets
from keras_distill.data.elements import to_floatx
from keras_distill.data.elements import to_tuple
from keras_distill.store.fingerprints import fingerprint_examples
from keras_distill.store.shards import raise_mismatch
from keras_distill.validation import check_integer


class PairedBatches(keras.utils.PyDataset):
    """Batches of a transfer set with soft targets.

    `find(position, count)` returns the fingerprints and the flat soft targets
    of `count` examples. `decoded` is a batch of soft targets, for its
    structure. Only the first `compared` inputs of a batch are compared, or all
    if it is `None`.
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
        first, *_ = to_tuple(self._batches[0])
        flat = list(map(np.asarray, keras.tree.flatten(first)))
        # All batches except the last one have this size.
        self._batch_size = len(flat[0])
        self.inputs = describe_inputs(flat, batched=True)

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
        element = self._batches[index]
        x, *_ = to_tuple(element)
        position = index * self._batch_size
        count = len(keras.tree.flatten(x)[0])
        if count != self._batch_size and index + 1 < len(self):
            raise ValueError(
                "Expected batches of the same size, except for the last one. "
                f"Received: a batch of {count} at index {index}, after a first "
                f"batch of {self._batch_size}"
            )
        expected, *flat = self._find(position, count)
        compared = keras.tree.map_structure(lambda x: x[: self._compared], x)
        fingerprints = fingerprint_examples(compared)
        differ = fingerprints != expected[: self._compared]
        if differ.any():
            raise_mismatch(position + int(np.argmax(differ)))
        soft_targets = keras.tree.pack_sequence_as(self._decoded, flat)
        return join_soft_targets(element, soft_targets)

    def on_epoch_begin(self):
        if isinstance(self._batches, keras.utils.PyDataset):
            self._batches.on_epoch_begin()

    def on_epoch_end(self):
        if isinstance(self._batches, keras.utils.PyDataset):
            self._batches.on_epoch_end()


class _Slices:
    """Batches of arrays."""

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
        arrays = keras.tree.map_structure(np.asarray, arrays_to_tuple(data))
        return _Slices(arrays, batch_size or FIT_BATCH_SIZE)
    if not isinstance(data, keras.utils.PyDataset):
        raise ValueError(
            "Expected arrays, a `keras.utils.PyDataset` of batches, or a "
            "`tf.data.Dataset`. Other data cannot be read again in the same "
            f"order. Received: {data!r}"
        )
    if batch_size is not None:
        raise ValueError(
            "The dataset has batches already. "
            f"Received: batch_size={batch_size}"
        )
    return data

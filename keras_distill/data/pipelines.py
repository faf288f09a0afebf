"""Converts all data that `fit` accepts to a `tf.data` pipeline."""

import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import get_data_adapter
from keras_distill.data.elements import FIT_BATCH_SIZE
from keras_distill.data.elements import arrays_to_tuple
from keras_distill.data.elements import is_endless
from keras_distill.data.elements import refuse_soft_targets
from keras_distill.data.elements import to_tuple
from keras_distill.validation import check_integer


class Examples(typing.NamedTuple):
    """A transfer set as a pipeline.

    Args:
        dataset: `tf.data.Dataset` of `(x,)`, `(x, y)` or
            `(x, y, sample_weight)`.
        batched: Whether the elements are batches.
        batch_size: Size of the batches to make of single examples, or `None`.
        length: Number of elements, or `None` if it is unknown.
    """

    dataset: typing.Any
    batched: bool
    batch_size: int | None
    length: int | None

    def count_examples(self, batch_size: int) -> int | None:
        """Returns the number of examples, if all batches have this size."""
        if self.length is None or not self.batched:
            return self.length
        return self.length * batch_size


def to_examples(
    data, batch_size, ranks, augment=None, default_batch_size=FIT_BATCH_SIZE
) -> Examples:
    """Converts data to `Examples`.

    `ranks` are the ranks of the inputs of a batch in flat order. If they are
    `None`, the elements of a dataset are batches, unless `batch_size` or
    `augment` is given. `default_batch_size` is for arrays.
    """
    if batch_size is not None:
        check_integer("batch_size", batch_size, low=1)
    if isinstance(data, tf.data.Dataset):
        dataset = _as_tuples(data)
        batched = _are_batches(
            dataset, ranks, batch_size is None and augment is None
        )
    elif can_convert_arrays(data):
        dataset = _slice_arrays(arrays_to_tuple(data))
        batched = False
        batch_size = batch_size or default_batch_size
    else:
        dataset = _as_tuples(get_data_adapter(data).get_tf_dataset())
        batched = True
    if batched and batch_size is not None:
        raise ValueError(
            "The dataset has batches already. "
            f"Received: batch_size={batch_size}"
        )
    length = int(dataset.cardinality())
    if length == tf.data.INFINITE_CARDINALITY or is_endless(data):
        raise ValueError(
            "Expected a dataset that ends. Pass the dataset before "
            "`.repeat()`, and repeat the result of `attach`. Received: "
            f"{data}"
        )
    return Examples(
        dataset, batched, batch_size, length if length >= 0 else None
    )


def replay(examples: Examples, augment, seed: int, view) -> Examples:
    """Augments single examples, always in the same way for a seed and view."""
    if examples.batched:
        raise ValueError(
            "`augment` takes one example at a time. Pass the dataset before "
            "`.batch()`, or arrays. Received: a dataset of batches"
        )

    # The dtype changes the seed.
    view = tf.cast(view, tf.int64)

    def apply(number, element):
        x, *rest = element
        mixed = tf.random.experimental.stateless_fold_in([seed, number], view)
        return (augment(x, mixed), *rest)

    return examples._replace(
        dataset=examples.dataset.enumerate().map(
            apply, num_parallel_calls=tf.data.AUTOTUNE
        )
    )


def in_batches(examples: Examples, batch_size):
    """Returns a dataset of batches."""
    if examples.batched:
        return examples.dataset
    return examples.dataset.batch(batch_size)


def _as_tuples(dataset):
    """Returns a dataset with elements that are tuples of one to three parts."""
    refuse_soft_targets(dataset.element_spec)
    if isinstance(dataset.element_spec, tuple):
        return dataset
    return dataset.map(to_tuple)


def _slice_arrays(arrays):
    """Returns a dataset of examples, with the dtypes of `fit`."""
    if not are_dense(arrays[0]):
        raise ValueError(
            f"Expected inputs that are dense arrays. Received: {arrays[0]!r}"
        )
    dataset = tf.data.Dataset.from_tensor_slices(
        # TensorFlow would convert a list of arrays to one array.
        keras.tree.lists_to_tuples(arrays)
    )
    floatx = tf.as_dtype(keras.config.floatx())

    def needs_cast(tensor):
        return tensor.dtype.is_floating and tensor.dtype != floatx

    def cast(tensor):
        return tf.cast(tensor, floatx) if needs_cast(tensor) else tensor

    if not any(map(needs_cast, keras.tree.flatten(dataset.element_spec))):
        return dataset
    return dataset.map(lambda *example: keras.tree.map_structure(cast, example))


def _are_batches(dataset, ranks, default: bool) -> bool:
    """Whether elements are batches. Returns `default` for unknown ranks."""
    specs = keras.tree.flatten(dataset.element_spec[0])
    for spec in specs:
        if not isinstance(spec, tf.TensorSpec):
            raise ValueError(
                f"Expected inputs that are dense tensors. Received: {spec}"
            )
    received = [spec.shape.rank for spec in specs]
    if ranks is None or None in received or None in ranks:
        return default
    if received == list(ranks):
        return True
    if received == [rank - 1 for rank in ranks]:
        return False
    raise ValueError(
        f"Expected inputs of rank {list(ranks)} with the axis of the batch, "
        f"or of one rank less without it. Received: inputs of rank {received}"
    )

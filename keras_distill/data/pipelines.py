"""Converts all data that `fit` accepts to a `tf.data` pipeline."""

import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import get_data_adapter
from keras_distill.data.elements import FIT_BATCH_SIZE
from keras_distill.data.elements import arrays_to_tuple
from keras_distill.data.elements import check_batch_size
from keras_distill.data.elements import is_endless
from keras_distill.data.elements import to_tuple


class Examples(typing.NamedTuple):
    """A transfer set as a pipeline of elements in the form of `to_tuple`."""

    dataset: typing.Any
    # Whether the elements are batches.
    batched: bool
    # Size of the batches to make of single examples.
    batch_size: int | None
    # Number of elements, if it is known.
    length: int | None

    def in_batches(self, batch_size):
        """Returns a dataset of batches."""
        return self.dataset if self.batched else self.dataset.batch(batch_size)


def to_examples(
    data, batch_size, ranks, augment=None, default_batch_size=FIT_BATCH_SIZE
) -> Examples:
    """Converts what `SoftTargetStore.create` accepts to `Examples`."""
    batched, default = True, None
    if isinstance(data, tf.data.Dataset):
        dataset = _as_tuples(data)
        # If the ranks are unknown, these arguments decide.
        batched = _are_batches(
            dataset, ranks, batch_size is None and augment is None
        )
    elif can_convert_arrays(data):
        dataset = _slice_arrays(arrays_to_tuple(data))
        batched, default = False, default_batch_size
    else:
        dataset = _as_tuples(get_data_adapter(data).get_tf_dataset())
    check_batch_size(batch_size, batched)
    length = int(dataset.cardinality())
    if length == tf.data.INFINITE_CARDINALITY or is_endless(data):
        raise ValueError(
            "Expected a dataset that ends. Pass the dataset before "
            "`.repeat()`, and repeat the result of `attach`. Received: "
            f"{data}"
        )
    return Examples(
        dataset,
        batched,
        batch_size or default,
        length if length >= 0 else None,
    )


def replay(examples: Examples, augment, seed, view) -> Examples:
    """Augments single examples, always in the same way for a seed and view."""
    if augment is None:
        return examples
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
        augmented = augment(x, mixed)
        if augmented is None:
            raise ValueError(
                "Expected `augment` to return the inputs of an example. "
                "Received: None"
            )
        return (augmented, *rest)

    return examples._replace(
        dataset=examples.dataset.enumerate().map(
            apply, num_parallel_calls=tf.data.AUTOTUNE
        )
    )


def _as_tuples(dataset):
    to_tuple(dataset.element_spec)
    if isinstance(dataset.element_spec, tuple):
        return dataset
    return dataset.map(to_tuple)


def _slice_arrays(arrays):
    """Returns a dataset of examples, with the dtypes of `fit`."""
    if not are_dense(arrays[0]):
        raise ValueError(
            f"Expected inputs that are dense arrays. Received: {arrays[0]!r}"
        )
    floatx = keras.config.floatx()

    def to_tensor(array):
        tensor = tf.convert_to_tensor(array)
        return tf.cast(tensor, floatx) if tensor.dtype.is_floating else tensor

    with tf.device("CPU"):
        return tf.data.Dataset.from_tensor_slices(
            # `tf.data` would convert a list of arrays to one array.
            keras.tree.map_structure(
                to_tensor, keras.tree.lists_to_tuples(arrays)
            )
        )


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

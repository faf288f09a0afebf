"""Transfer sets as `tf.data` pipelines, and soft targets joined to them."""

import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_internals import can_convert_arrays
from keras_distill.backend.keras_internals import get_data_adapter
from keras_distill.transfer.shards import StoreError
from keras_distill.transfer.targets import pack_targets
from keras_distill.validation import check_integer

# Examples that come one by one are paired in batches of this size.
_CHUNK = 256
_FIT_BATCH_SIZE = 32


class Examples(typing.NamedTuple):
    """A transfer set as a pipeline.

    Args:
        dataset: `tf.data.Dataset` of `(x,)`, `(x, y)` or
            `(x, y, sample_weight)`.
        batched: Whether its elements are batches.
        batch_size: Examples in the batches to make of it, or `None` where it
            stays as it is.
    """

    dataset: typing.Any
    batched: bool
    batch_size: int | None

    def count(self, batch_size):
        """Returns the number of examples, if it can be told.

        Args:
            batch_size: That of a batch, where the dataset has batches. All
                are taken to be as large.

        Returns:
            An integer, or `None`.
        """
        cardinality = int(self.dataset.cardinality())
        if cardinality < 0:
            return None
        return cardinality * batch_size if self.batched else cardinality


def to_examples(data, batch_size, ranks, default_batch_size=_FIT_BATCH_SIZE):
    """Returns whatever `fit` takes as a pipeline.

    Args:
        data: `tf.data.Dataset`, of batches or of single examples; arrays, or
            a tuple `(x, y)` or `(x, y, sample_weight)` of these; a
            `keras.utils.PyDataset` or a generator of batches.
        batch_size: The argument of the user, or `None`.
        ranks: Ranks of the inputs of a batch in flat order, or `None` where
            they are not known.
        default_batch_size: For arrays.

    Returns:
        `Examples`.

    Raises:
        ValueError: If `batch_size` is given for batches, or the inputs have
            other ranks.
    """
    if batch_size is not None:
        check_integer("batch_size", batch_size, low=1)
    if isinstance(data, tf.data.Dataset):
        dataset = data.map(_unpack)
        batched = _are_batches(dataset, ranks)
    elif can_convert_arrays(data):
        dataset = tf.data.Dataset.from_tensor_slices(_unpack(data))
        batched = False
        batch_size = batch_size or default_batch_size
    else:
        dataset = get_data_adapter(data).get_tf_dataset().map(_unpack)
        batched = True
    if batched and batch_size is not None:
        raise ValueError(
            "The dataset has batches already. "
            f"Received: batch_size={batch_size}"
        )
    return Examples(dataset, batched, batch_size)


def replay(examples, augment, seed, view):
    """Applies the augmentation of one view to single examples.

    Args:
        examples: `Examples`.
        augment: Function `(x, seed) -> x` of TensorFlow operations, with the
            inputs of one example and an integer tensor of shape `(2,)`.
        seed: Integer, the seed of the store.
        view: Number of the view, an integer or scalar tensor.

    Returns:
        `Examples`: what the numbers of example and view and the seed make of
        them, in every process.

    Raises:
        ValueError: If the dataset has batches.
    """
    if examples.batched:
        raise ValueError(
            "`augment` takes one example at a time: pass the dataset before "
            "`.batch()`, or arrays. Received: a dataset of batches"
        )

    # Another dtype would give another seed.
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


def in_batches(examples, batch_size):
    """Returns a dataset of batches, made of single examples if need be."""
    if examples.batched:
        return examples.dataset
    return examples.dataset.batch(batch_size)


def inputs_of(batches):
    """Returns the inputs alone, a batch ahead of whoever takes them."""
    return batches.map(lambda x, *_: x).prefetch(tf.data.AUTOTUNE)


def fingerprint_examples(x):
    """Returns a hash of each example in a batch.

    Half of FarmHash's Fingerprint64, which is the same on every platform.

    Args:
        x: Inputs of a batch: tensors of numbers or strings.

    Returns:
        Tensor of shape `(batch,)` and dtype uint32.
    """
    hashes = [tf.fingerprint(tensor) for tensor in keras.tree.flatten(x)]
    if len(hashes) > 1:
        hashes = [tf.fingerprint(tf.concat(hashes, axis=-1))]
    return tf.bitcast(hashes[0][:, :4], tf.uint32)


def pair(examples, view, find, decoded, compared=None):
    """Joins soft targets to a pipeline.

    Python is asked for the soft targets of many batches at once, as to ask it
    takes longer than to cut a batch out of what it has answered.

    Args:
        examples: `Examples`.
        view: Number of the view, an integer or scalar tensor.
        find: Function `(view, position, count)` of the position of the first
            example in a batch and of their number, that returns the
            fingerprints and the arrays, in flat order, of the soft targets of
            at least so many examples. It raises `ValueError` where there are
            fewer.
        decoded: A batch of soft targets, for its structure, shapes and dtypes.
        compared: The number of examples in a batch whose inputs are compared:
            the first ones. Defaults to `None`: all.

    Returns:
        `tf.data.Dataset` of what `examples` has, in the same batches, with the
        soft targets beside the labels. It raises
        `tf.errors.InvalidArgumentError` at an input that is not the one that
        was labelled.
    """
    specs = [tf.TensorSpec((None,), tf.uint32)] + [
        tf.TensorSpec((None, *array.shape[1:]), array.dtype)
        for array in keras.tree.flatten(decoded)
    ]

    def ask(position, count):
        found = tf.numpy_function(
            find, [view, position, count], [spec.dtype for spec in specs]
        )
        for tensor, spec in zip(found, specs, strict=True):
            tensor.set_shape(spec.shape)
        return position, *found

    def join(state, element):
        position, start, *found = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
        count = tf.shape(keras.tree.flatten(x)[0], out_type=tf.int64)[0]
        start, *found = tf.cond(
            position + count > start + tf.shape(found[0], tf.int64)[0],
            lambda: ask(position, count),
            lambda: (start, *found),
        )
        first = position - start
        expected, *flat = (tensor[first : first + count] for tensor in found)
        differ = tf.not_equal(
            fingerprint_examples(
                keras.tree.map_structure(lambda tensor: tensor[:compared], x)
            ),
            expected[:compared],
        )
        with tf.control_dependencies([_assert_none(differ, position)]):
            flat = [tf.identity(tensor) for tensor in flat]
        y = pack_targets(y, keras.tree.pack_sequence_as(decoded, flat))
        joined = (x, y) if sample_weight is None else (x, y, sample_weight)
        return (position + count, start, *found), joined

    zero = tf.constant(0, tf.int64)
    nothing = [tf.zeros((0, *spec.shape[1:]), spec.dtype) for spec in specs]
    batches = in_batches(examples, examples.batch_size or _CHUNK)
    dataset = batches.scan((zero, zero, *nothing), join)
    if examples.batched or examples.batch_size:
        return dataset.prefetch(tf.data.AUTOTUNE)
    return assert_length(dataset.unbatch(), examples.dataset)


def _assert_none(differ, position):
    """Stops at the first example whose input is another one."""

    def fail():
        number = position + tf.argmax(tf.cast(differ, tf.int32))
        return tf.numpy_function(_refuse, [number], tf.int64)

    return tf.cond(
        tf.reduce_any(differ), fail, lambda: tf.constant(0, tf.int64)
    )


def _refuse(number):
    raise StoreError(
        f"Example {number} (the first is 0) is not the one that was labelled: "
        "inputs and soft targets do not belong together. Attach the dataset "
        "in the order in which `create` saw it, and shuffle it afterwards; "
        "what is random in it has to be in `augment`."
    )


def walk_through(views, first_view, one_pass):
    """Returns a dataset whose passes show one view after another.

    A view lasts until its last example has been read, so that a look at the
    first batch, as Keras takes one to build a model, skips none.

    Args:
        views: Number of views.
        first_view: The view of the first pass.
        one_pass: Function from the number of a view, a scalar tensor, to its
            `tf.data.Dataset`.
    """
    passes = [first_view]

    def present():
        return passes[0] % views

    def turn():
        passes[0] += 1
        return 0

    def in_graph(function):
        return tf.ensure_shape(tf.numpy_function(function, [], tf.int64), ())

    def begin(_):
        dataset = one_pass(in_graph(present))
        # Empty, and evaluated when all before it has been read.
        end = tf.data.Dataset.range(1).flat_map(
            lambda _: dataset.take(in_graph(turn))
        )
        return dataset.concatenate(end)

    return tf.data.Dataset.range(1).flat_map(begin)


def assert_length(dataset, like):
    """Notes on a dataset that it has as many elements as another one."""
    cardinality = like.cardinality()
    if cardinality < 0:
        return dataset
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))


def describe_inputs(x, batched):
    """Returns shape and dtype of the inputs of one example, as JSON has them.

    Args:
        x: Inputs: tensors or their specs.
        batched: Whether they are those of a batch.
    """
    return [
        {
            "shape": list(tensor.shape[1:] if batched else tensor.shape),
            "dtype": tensor.dtype.name,
        }
        for tensor in keras.tree.flatten(x)
    ]


def _unpack(*element):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
        element[0] if len(element) == 1 else element
    )
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def _are_batches(dataset, ranks):
    """Whether the elements of a dataset are batches.

    Args:
        dataset: `tf.data.Dataset` of tuples.
        ranks: Ranks of the inputs of a batch, or `None`: then they are.

    Raises:
        ValueError: If they have neither these ranks nor one less.
    """
    specs = keras.tree.flatten(dataset.element_spec[0])
    for spec in specs:
        if not isinstance(spec, tf.TensorSpec):
            raise ValueError(
                f"Expected inputs that are dense tensors. Received: {spec}"
            )
    received = [spec.shape.rank for spec in specs]
    if ranks is None or None in received or None in ranks:
        return True
    if received == list(ranks):
        return True
    if received == [rank - 1 for rank in ranks]:
        return False
    raise ValueError(
        f"Expected inputs of rank {list(ranks)} with the axis of the batch, "
        f"or of one less without. Received: inputs of rank {received}"
    )

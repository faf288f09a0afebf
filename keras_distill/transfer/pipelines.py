"""Transfer sets as `tf.data` pipelines, and soft targets joined to them."""

import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import get_data_adapter
from keras_distill.data.batches import is_endless
from keras_distill.data.batches import join_soft_targets
from keras_distill.data.batches import refuse_soft_targets
from keras_distill.transfer.shards import refuse
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
        length: Number of its elements, or `None` where it is not known.
    """

    dataset: typing.Any
    batched: bool
    batch_size: int | None
    length: int | None

    def count(self, batch_size):
        """Returns the number of examples, if it can be told.

        Args:
            batch_size: That of a batch, where the dataset has batches. All
                are taken to be as large.

        Returns:
            An integer, or `None`.
        """
        if self.length is None or not self.batched:
            return self.length
        return self.length * batch_size


def to_examples(
    data, batch_size, ranks, augment=None, default_batch_size=_FIT_BATCH_SIZE
):
    """Returns whatever `fit` takes as a pipeline.

    Args:
        data: `tf.data.Dataset`, of batches or of single examples; arrays, or
            a tuple `(x, y)` or `(x, y, sample_weight)` of these; a
            `keras.utils.PyDataset` or a generator of batches.
        batch_size: The argument of the user, or `None`.
        ranks: Ranks of the inputs of a batch in flat order, or `None` where
            they are not known: then a dataset has batches, unless `batch_size`
            or `augment` say that it has single examples.
        augment: The argument of the user, or `None`.
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
        dataset = _as_tuples(data)
        batched = _are_batches(
            dataset, ranks, batch_size is None and augment is None
        )
    elif can_convert_arrays(data):
        dataset = _slice_arrays(_unpack(data))
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
            "Expected a dataset that ends. Pass it before `.repeat()`, and "
            f"repeat what `attach` returns. Received: {data}"
        )
    return Examples(
        dataset, batched, batch_size, length if length >= 0 else None
    )


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


def list_inputs(examples, batch_size):
    """Yields the inputs of each batch, and their fingerprints, as tensors."""
    batches = in_batches(examples, batch_size).map(
        # Beside the teacher and not before it.
        lambda x, *_: (x, fingerprint_examples(x))
    )
    if not examples.batched:
        # Whoever made the batches decides whether to read them ahead.
        batches = read_ahead(batches)
    yield from batches


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
    return tf.cast(tf.bitcast(hashes[0], tf.uint64), tf.uint32)


def pair(examples, view, find, decoded, compared=None, end=None):
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
        end: Function without arguments that is called before the last element
            is handed over. Needs a known number of elements. Defaults to
            `None`.

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

    batches = in_batches(examples, examples.batch_size or _CHUNK)
    stay_single = not examples.batched and not examples.batch_size
    length = examples.length if stay_single else _count_batches(examples)

    def join(state, element):
        number, position, start, *found = state
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
        done = [_assert_none(differ, position)]
        if end is not None and not stay_single:
            done.append(_call_if(tf.equal(number + 1, length), end))
        with tf.control_dependencies(done):
            flat = [tf.identity(tensor) for tensor in flat]
        soft_targets = keras.tree.pack_sequence_as(decoded, flat)
        joined = join_soft_targets(x, y, sample_weight, soft_targets)
        return (number + 1, position + count, start, *found), joined

    zero = tf.constant(0, tf.int64)
    nothing = [tf.zeros((0, *spec.shape[1:]), spec.dtype) for spec in specs]
    dataset = batches.scan((zero, zero, zero, *nothing), join)
    if not stay_single:
        return dataset
    dataset = dataset.unbatch()
    if end is not None:
        dataset = dataset.enumerate().map(
            lambda number, element: _call_before(
                tf.equal(number + 1, length), end, element
            )
        )
    return assert_length(dataset, examples.length)


def _count_batches(examples):
    """Returns the number of batches, or `None` if it is not known."""
    if examples.length is None or examples.batched:
        return examples.length
    return -(-examples.length // examples.batch_size)


def _assert_none(differ, position):
    """Stops at the first example whose input is another one."""
    number = position + tf.argmax(tf.cast(differ, tf.int32))
    return _call_if(tf.reduce_any(differ), refuse, number)


def _call_if(condition, function, *arguments):
    """Calls a Python function, where a tensor is true."""
    return tf.cond(
        condition,
        lambda: tf.numpy_function(function, arguments, tf.int64),
        lambda: tf.constant(0, tf.int64),
    )


def _call_before(condition, function, element):
    """Returns an element when a function was called, where it had to be."""
    with tf.control_dependencies([_call_if(condition, function)]):
        return keras.tree.map_structure(tf.identity, element)


def walk_through(views, first_view, one_pass, length):
    """Returns a dataset whose passes show one view after another.

    A view lasts until the last batch of a pass, so that a look at the first
    one, as Keras takes it to build a model, skips none.

    Args:
        views: Number of views.
        first_view: The view of the first pass.
        one_pass: Function `(view, end)` that returns a `tf.data.Dataset` and
            has it call `end()` as `pair` does.
        length: Number of elements in a pass, or `None`.
    """
    passes = [first_view]

    def present():
        return passes[0] % views

    def turn():
        passes[0] += 1
        return 0

    def begin(_):
        view = tf.ensure_shape(tf.numpy_function(present, [], tf.int64), ())
        if length is not None:
            # Keras does not ask for more than these.
            return one_pass(view, turn)
        # Empty, and evaluated when all before it has been read.
        dataset = one_pass(view, None)
        end = tf.data.Dataset.range(1).flat_map(
            lambda _: dataset.take(
                tf.ensure_shape(tf.numpy_function(turn, [], tf.int64), ())
            )
        )
        return dataset.concatenate(end)

    # What reads ahead by itself would turn too early.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.range(1).flat_map(begin).with_options(options)
    return assert_length(dataset, length)


def read_ahead(dataset):
    """Returns a dataset that prepares batches while others are trained on."""
    return dataset.prefetch(tf.data.AUTOTUNE)


def assert_length(dataset, length):
    """Notes on a dataset how many elements it has, unless that is `None`."""
    if length is None:
        return dataset
    return dataset.apply(tf.data.experimental.assert_cardinality(length))


def describe_inputs(x, batched):
    """Returns shape and dtype of the inputs of one example, as JSON has them.

    The shape is `None` where nothing is known of it.

    Args:
        x: Inputs: tensors or their specs.
        batched: Whether they are those of a batch.
    """
    return [
        {
            "shape": _list_sizes(tensor.shape, batched),
            "dtype": tensor.dtype.name,
        }
        for tensor in keras.tree.flatten(x)
    ]


def _list_sizes(shape, batched):
    if shape.rank is None:
        return None
    return list(shape[1:] if batched else shape)


def _as_tuples(dataset):
    """Returns a dataset whose elements are tuples of one to three."""
    refuse_soft_targets(dataset.element_spec)
    if isinstance(dataset.element_spec, tuple):
        return dataset
    return dataset.map(_unpack)


def _unpack(*element):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
        element[0] if len(element) == 1 else element
    )
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def _slice_arrays(arrays):
    """Returns a dataset of examples, with the dtypes that `fit` gives them.

    Raises:
        ValueError: If inputs are sparse or ragged.
    """
    if not are_dense(arrays[0]):
        raise ValueError(
            f"Expected inputs that are dense arrays. Received: {arrays[0]!r}"
        )
    dataset = tf.data.Dataset.from_tensor_slices(
        # Of a list of arrays TensorFlow would make one array.
        keras.tree.lists_to_tuples(arrays)
    )
    floatx = tf.as_dtype(keras.config.floatx())

    def is_other(tensor):
        return tensor.dtype.is_floating and tensor.dtype != floatx

    if not any(map(is_other, keras.tree.flatten(dataset.element_spec))):
        return dataset
    return dataset.map(
        lambda *example: keras.tree.map_structure(
            lambda each: tf.cast(each, floatx) if is_other(each) else each,
            example,
        )
    )


def _are_batches(dataset, ranks, otherwise):
    """Whether the elements of a dataset are batches.

    Args:
        dataset: `tf.data.Dataset` of tuples.
        ranks: Ranks of the inputs of a batch, or `None`.
        otherwise: What is returned where ranks are not known.

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
        return otherwise
    if received == list(ranks):
        return True
    if received == [rank - 1 for rank in ranks]:
        return False
    raise ValueError(
        f"Expected inputs of rank {list(ranks)} with the axis of the batch, "
        f"or of one less without. Received: inputs of rank {received}"
    )

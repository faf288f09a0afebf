"""Joins soft targets to a `tf.data` pipeline."""

import keras
import tensorflow as tf

from keras_distill.data.elements import describe_inputs
from keras_distill.data.elements import join_soft_targets
from keras_distill.data.elements import to_tuple
from keras_distill.data.pipelines import in_batches
from keras_distill.data.pipelines import replay
from keras_distill.data.pipelines import to_examples
from keras_distill.store.shards import raise_mismatch

# Single examples are joined in batches of this size.
_CHUNK = 256


def list_inputs(examples, batch_size: int):
    """Yields the inputs of each batch, and their fingerprints, as tensors."""
    batches = in_batches(examples, batch_size).map(
        # In parallel to the teacher.
        lambda x, *_: (x, fingerprint_examples(x))
    )
    if not examples.batched:
        # The user decides whether to prefetch a dataset of batches.
        batches = prefetch(batches)
    yield from batches


def fingerprint_examples(x):
    """Returns a uint32 hash of each example in a batch.

    The lower half of FarmHash's Fingerprint64, which is the same on every
    platform. The inputs are numbers or strings.
    """
    hashes = [tf.fingerprint(tensor) for tensor in keras.tree.flatten(x)]
    if len(hashes) > 1:
        hashes = [tf.fingerprint(tf.concat(hashes, axis=-1))]
    return tf.cast(tf.bitcast(hashes[0], tf.uint64), tf.uint32)


def pair(examples, view, find, decoded, compared=None, end=None):
    """Returns the dataset of `Examples` with soft targets, in the same batches.

    `find(view, position, count)` returns the fingerprints and the flat soft
    targets of `count` or more examples. `decoded` is a batch of soft targets,
    for its structure, shapes and dtypes. Only the first `compared` inputs of a
    batch are compared, or all if it is `None`. `end()` is called before the
    last element, and needs a known number of elements.
    """
    specs = [tf.TensorSpec((None,), tf.uint32)] + [
        tf.TensorSpec((None, *array.shape[1:]), array.dtype)
        for array in keras.tree.flatten(decoded)
    ]

    def load(position, count):
        loaded = tf.numpy_function(
            find, [view, position, count], [spec.dtype for spec in specs]
        )
        for tensor, spec in zip(loaded, specs, strict=True):
            tensor.set_shape(spec.shape)
        return position, *loaded

    batches = in_batches(examples, examples.batch_size or _CHUNK)
    unbatch = not examples.batched and not examples.batch_size
    length = examples.length if unbatch else _count_batches(examples)

    def join(state, element):
        number, position, start, *loaded = state
        x, *_ = to_tuple(element)
        count = tf.shape(keras.tree.flatten(x)[0], out_type=tf.int64)[0]
        # A call of Python is slow, so it loads several batches at once.
        start, *loaded = tf.cond(
            position + count > start + tf.shape(loaded[0], tf.int64)[0],
            lambda: load(position, count),
            lambda: (start, *loaded),
        )
        first = position - start
        expected, *flat = (tensor[first : first + count] for tensor in loaded)
        differ = tf.not_equal(
            fingerprint_examples(
                keras.tree.map_structure(lambda tensor: tensor[:compared], x)
            ),
            expected[:compared],
        )
        mismatch = position + tf.argmax(tf.cast(differ, tf.int32))
        done = [_call_if(tf.reduce_any(differ), raise_mismatch, mismatch)]
        if end is not None and not unbatch:
            done.append(_call_if(tf.equal(number + 1, length), end))
        with tf.control_dependencies(done):
            flat = [tf.identity(tensor) for tensor in flat]
        joined = join_soft_targets(
            element, keras.tree.pack_sequence_as(decoded, flat)
        )
        return (number + 1, position + count, start, *loaded), joined

    zero = tf.constant(0, tf.int64)
    empty = [tf.zeros((0, *spec.shape[1:]), spec.dtype) for spec in specs]
    dataset = batches.scan((zero, zero, zero, *empty), join)
    if not unbatch:
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
    """Returns the number of batches, or `None` if it is unknown."""
    if examples.length is None or examples.batched:
        return examples.length
    return -(-examples.length // examples.batch_size)


def _call_if(condition, function, *arguments):
    """Calls a Python function if a tensor is true."""
    return tf.cond(
        condition,
        lambda: tf.numpy_function(function, arguments, tf.int64),
        lambda: tf.constant(0, tf.int64),
    )


def _call_before(condition, function, element):
    """Returns an element after the call of a function, if a tensor is true."""
    with tf.control_dependencies([_call_if(condition, function)]):
        return keras.tree.map_structure(tf.identity, element)


def cycle_views(views: int, first_view: int, one_pass, length):
    """Returns a dataset that shows the next view in each complete pass.

    `one_pass(view, end)` returns the `tf.data.Dataset` of a view, which calls
    `end()` before its last element. `length` is its number of elements, or
    `None`. A pass that stops early, as when Keras reads the first batch to
    build a model, does not skip a view.
    """
    passes = [first_view]

    def current_view():
        return passes[0] % views

    def advance():
        passes[0] += 1
        return 0

    def begin(_):
        view = tf.ensure_shape(
            tf.numpy_function(current_view, [], tf.int64), ()
        )
        if length is not None:
            # Keras does not read beyond the last element.
            return one_pass(view, advance)
        # An empty dataset that is read after the last element.
        dataset = one_pass(view, None)
        end = tf.data.Dataset.range(1).flat_map(
            lambda _: dataset.take(
                tf.ensure_shape(tf.numpy_function(advance, [], tf.int64), ())
            )
        )
        return dataset.concatenate(end)

    # An automatic prefetch would advance too early.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.range(1).flat_map(begin).with_options(options)
    return assert_length(dataset, length)


def prefetch(dataset):
    """Returns a dataset that prepares batches during the training step."""
    return dataset.prefetch(tf.data.AUTOTUNE)


def assert_length(dataset, length):
    """Sets the number of elements of a dataset, unless it is `None`."""
    if length is None:
        return dataset
    return dataset.apply(tf.data.experimental.assert_cardinality(length))


def join_pipeline(
    dataset,
    batch_size,
    ranks,
    augment,
    seed,
    views: int,
    initial_epoch: int,
    find,
    decoded,
    compared,
):
    """Returns the pipeline of `SoftTargetStore.attach`, and its input specs."""
    examples = to_examples(dataset, batch_size, ranks, augment)

    def one_pass(view, end=None):
        replayed = examples
        if augment is not None:
            replayed = replay(examples, augment, seed, view)
        return pair(replayed, view, find, decoded, compared, end)

    whole = one_pass(0)
    inputs = describe_inputs(
        whole.element_spec[0].inputs,
        bool(examples.batched or examples.batch_size),
    )
    if views == 1:
        return prefetch(whole), inputs
    length = int(whole.cardinality())
    joined = cycle_views(
        views, initial_epoch, one_pass, length if length >= 0 else None
    )
    return joined, inputs

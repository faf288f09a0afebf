"""Joins soft targets to a `tf.data` pipeline."""

import keras
import tensorflow as tf

from keras_distill.data import elements
from keras_distill.data import pipelines
from keras_distill.store.example_fingerprints import fingerprint_tensors
from keras_distill.store.reader import StoreReader
from keras_distill.store.shards import raise_mismatch

# Single examples are joined in batches of this size.
_CHUNK = 256


def list_inputs(examples: pipelines.Examples, batch_size, views, augment, seed):
    """Yields the inputs of each batch, and their fingerprints, as tensors."""
    for view in range(views):
        batches = pipelines.replay(examples, augment, seed, view).in_batches(
            batch_size
        )
        batches = batches.map(
            # In parallel to the teacher.
            lambda x, *_: (x, fingerprint_tensors(x))
        )
        if not examples.batched:
            # The user decides whether to prefetch a dataset of batches.
            batches = batches.prefetch(tf.data.AUTOTUNE)
        yield from batches


def attach(
    reader: StoreReader, dataset, batch_size, compared, augment, first_view: int
):
    """Returns a pipeline; `compared` inputs of a batch are compared, or all."""
    manifest = reader.manifest
    ranks = [len(described["shape"]) + 1 for described in manifest["inputs"]]
    examples = pipelines.to_examples(dataset, batch_size, ranks, augment)

    def one_pass(view):
        replayed = pipelines.replay(examples, augment, manifest["seed"], view)
        return _join(replayed, reader, view, compared)

    whole = one_pass(0)
    reader.check_inputs(
        elements.describe_inputs(
            whole.element_spec[0].inputs,
            bool(examples.batched or examples.batch_size),
        )
    )
    if manifest["views"] == 1:
        # It prepares batches during the training step.
        return whole.prefetch(tf.data.AUTOTUNE)
    length = int(whole.cardinality())
    return _cycle_views(
        one_pass, manifest["views"], first_view, length if length >= 0 else None
    )


def _join(examples: pipelines.Examples, reader: StoreReader, view, compared):
    """Returns a dataset with soft targets, in the same batches."""
    decoded = reader.example
    specs = [tf.TensorSpec((None,), tf.uint32)] + [
        tf.TensorSpec((None, *array.shape[1:]), array.dtype)
        for array in keras.tree.flatten(decoded)
    ]

    def load(position, count):
        loaded = tf.numpy_function(
            reader.find, [view, position, count], [spec.dtype for spec in specs]
        )
        for tensor, spec in zip(loaded, specs, strict=True):
            tensor.set_shape(spec.shape)
        return position, *loaded

    def join(state, element):
        position, start, *loaded = state
        x, *_ = elements.to_tuple(element)
        count = tf.shape(keras.tree.flatten(x)[0], out_type=tf.int64)[0]
        # A call of Python is slow, so it loads several batches at once.
        start, *loaded = tf.cond(
            position + count > start + tf.shape(loaded[0], tf.int64)[0],
            lambda: load(position, count),
            lambda: (start, *loaded),
        )
        first = position - start
        expected, *flat = (tensor[first : first + count] for tensor in loaded)
        fingerprints = fingerprint_tensors(
            keras.tree.map_structure(lambda tensor: tensor[:compared], x)
        )
        differ = tf.not_equal(fingerprints, expected[:compared])
        mismatch = position + tf.argmax(tf.cast(differ, tf.int32))
        flat = _call_before(
            flat, tf.reduce_any(differ), raise_mismatch, mismatch
        )
        joined = elements.add_soft_targets(
            element, keras.tree.pack_sequence_as(decoded, flat)
        )
        return (position + count, start, *loaded), joined

    zero = tf.constant(0, tf.int64)
    empty = [tf.zeros((0, *spec.shape[1:]), spec.dtype) for spec in specs]
    batches = examples.in_batches(examples.batch_size or _CHUNK)
    joined = batches.scan((zero, zero, *empty), join)
    if examples.batched or examples.batch_size:
        return joined
    return _assert_length(joined.unbatch(), examples.length)


def _cycle_views(one_pass, views: int, first_view: int, length: int | None):
    """Returns a dataset that shows the next view in each complete pass."""
    # A pass that stops early, as when Keras reads the first batch to build a
    # model, does not skip a view.
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
        dataset = one_pass(view)
        if length is not None:
            # Keras does not read beyond the last element.
            return dataset.enumerate().map(
                lambda number, element: _call_before(
                    element, tf.equal(number + 1, length), advance
                )
            )
        # An empty dataset that is read after the last element.
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
    return _assert_length(dataset, length)


def _call_before(tensors, condition, function, *arguments):
    """Returns tensors after the call of a function, if a tensor is true."""
    done = tf.cond(
        condition,
        lambda: tf.numpy_function(function, arguments, tf.int64),
        lambda: tf.constant(0, tf.int64),
    )
    with tf.control_dependencies([done]):
        return keras.tree.map_structure(tf.identity, tensors)


def _assert_length(dataset, length: int | None):
    """Sets the number of elements of a dataset, if it is known."""
    if length is None:
        return dataset
    return dataset.apply(tf.data.experimental.assert_cardinality(length))

import os

import tensorflow as tf

# What reading and writing of records raises.
RecordError = tf.errors.OpError

# What a compiled step raises when an operation meets impossible values.
NumericsError = tf.errors.InvalidArgumentError


def check_finite(x, message):
    """Returns `x`, or stops the step where it holds a NaN or an infinity.

    What depends on the returned tensor is not computed when the check fails,
    so no weight changes. XLA has no such check: under `jit_compile=True` the
    tensor is returned as it is.

    Args:
        x: Float tensor.
        message: Text that the error begins with.

    Returns:
        A tensor with the values of `x`.

    Raises:
        NumericsError: When the operation runs, not when it is traced.
    """
    return tf.debugging.check_numerics(x, message)


def is_distributed(model):
    """Whether a model trains under a `tf.distribute` strategy."""
    return model._distribute_strategy is not None


def after(tensors, inputs):
    """Returns inputs that are there no sooner than some other tensors.

    In a compiled step TensorFlow runs what does not depend on each other in
    any order, or at the same time. (To hold back whole operations instead of
    their inputs would also hold back the reading of their weights, which then
    costs a copy.)

    Args:
        tensors: List of tensors to wait for.
        inputs: Structure of tensors and `None`.

    Returns:
        The same structure, of the same values.
    """
    with tf.control_dependencies(tensors):
        return tf.nest.map_structure(
            lambda x: x if x is None else tf.identity(x), inputs
        )


def unscale_loss(value):
    """Undoes the division by the number of replicas in a loss.

    Under a `tf.distribute` strategy Keras divides every mean by the number of
    replicas, so that the gradients can be summed. A logged value is the mean
    over the replicas and needs the undivided one.

    Args:
        value: Scalar tensor, as a `keras.losses.Loss` returned it.

    Returns:
        Scalar tensor.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return value if replicas == 1 else value * replicas


def write_records(path):
    """Returns an object with `write(content)` and `close()`."""
    return tf.io.TFRecordWriter(os.fspath(path))


def read_records(path):
    """Yields the content of each TFRecord in a file, as bytes."""
    yield from tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator()

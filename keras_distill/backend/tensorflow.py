import tensorflow as tf

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


def run_after(tensors, function, *args):
    """Calls a function whose operations start when `tensors` are there.

    In a compiled step TensorFlow runs what does not depend on each other at
    the same time, and holds the memory of all of it.

    Args:
        tensors: List of tensors.
        function: What to call.
        *args: Its arguments.

    Returns:
        What the function returns.
    """
    with tf.control_dependencies(tensors):
        return function(*args)


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

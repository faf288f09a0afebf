"""What tests need of each backend of Keras, in its own way."""

import keras
import numpy as np
from keras import ops


def value_and_gradient(function, x):
    """Returns a scalar and its gradient in a tensor, as float64 arrays.

    The gradient is `None` where none reaches the tensor.
    """
    value, gradient = _BACKENDS[keras.backend.backend()](
        function, ops.convert_to_tensor(x)
    )
    if gradient is not None:
        gradient = _to_numpy(gradient)
    return _to_numpy(value), gradient


def observe(function, x):
    """Calls a function with the value of a tensor each time it is computed.

    Args:
        function: Function of an array.
        x: Tensor.

    Returns:
        The tensor.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def call(value):
            function(value)
            return np.int64(0)

        with tf.control_dependencies([tf.numpy_function(call, [x], tf.int64)]):
            return tf.identity(x)
    if backend == "jax":
        import jax

        jax.debug.callback(function, x)
    elif not x.is_meta:  # Not while the shapes are found.
        function(x.detach().numpy())
    return x


def wait():
    """Waits until all that was observed has been told."""
    if keras.backend.backend() == "jax":
        import jax

        jax.effects_barrier()


def _to_numpy(tensor):
    # NumPy has no bfloat16.
    if keras.backend.standardize_dtype(tensor.dtype) != "float64":
        tensor = ops.cast(tensor, "float32")
    return np.float64(ops.convert_to_numpy(tensor))


def _with_tensorflow(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return value, tape.gradient(value, x)


def _with_jax(function, x):
    import jax

    value, gradient = jax.value_and_grad(function)(x)
    # JAX does not tell apart what is 0 and what there is no way to.
    return value, gradient if gradient.any() else None


def _with_torch(function, x):
    x = x.detach().requires_grad_()
    value = function(x)
    if not value.requires_grad:
        return value, None
    value.backward()
    return value.detach(), x.grad


_BACKENDS = {
    "jax": _with_jax,
    "tensorflow": _with_tensorflow,
    "torch": _with_torch,
}

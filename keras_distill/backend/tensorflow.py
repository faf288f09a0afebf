import contextlib
import math
import typing

import keras
import tensorflow as tf

from keras_distill.backend.in_place import call_step as call_step
from keras_distill.backend.in_place import is_ready as is_ready
from keras_distill.backend.in_place import (
    keeping_variables as keeping_variables,
)
from keras_distill.backend.in_place import read_failure as read_failure
from keras_distill.backend.in_place import run_step as run_step
from keras_distill.backend.keras_issue_20585 import (
    MultiWorkerFit as MultiWorkerFit,
)

# Whether a step of Keras stops at a label that is no class.
CHECKS_LABELS = True

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


def without_gradient():
    """Returns a context in which nothing is recorded for a gradient.

    In TensorFlow that is so wherever no tape is open.
    """
    return contextlib.nullcontext()


def is_distributed(model):
    """Whether a model trains under a `tf.distribute` strategy."""
    return model._distribute_strategy is not None


def has_several_processes(model):
    """Whether a model trains in several processes, each with its data."""
    return isinstance(
        model._distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy
    )


def makes_variables_in_steps(model):
    """Whether the first step of a model may still make metrics."""
    return not is_distributed(model)


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


def compile_inference(function, variables):
    """Returns a compiled function `inputs -> outputs`.

    It is compiled once for batches of all sizes.

    Args:
        function: Function of a batch of inputs.
        variables: The Keras variables that it reads.
    """
    del variables
    compiled: dict[tuple, typing.Any] = {}

    def call(inputs):
        inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
        specs = keras.tree.map_structure(
            lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), inputs
        )
        key = tuple(keras.tree.flatten(specs))
        if key not in compiled:
            compiled[key] = tf.function(function, input_signature=[specs])
        return compiled[key](inputs)

    return call


def count_multiply_adds(function, inputs):
    """Counts the multiplications, each with an addition, of one example.

    Those of matrix products and convolutions, as far as the shapes are known.
    What else there is (activations, normalizations, pooling) is small beside
    them and does not count.

    Args:
        function: Function of a batch of inputs.
        inputs: Structure of inputs; only shapes and dtypes matter.

    Returns:
        An integer; or `None` where loops or branches hide what is computed.
    """
    specs = keras.tree.map_structure(
        lambda x: tf.TensorSpec((1, *x.shape[1:]), x.dtype), inputs
    )
    graph = tf.function(function).get_concrete_function(specs).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type in _HIDING:
            return None
        count = _MULTIPLY_ADDS.get(operation.type)
        if count is None:
            continue
        shapes = [tensor.shape for tensor in operation.inputs]
        shapes.append(operation.outputs[0].shape)
        if not all(shape.is_fully_defined() for shape in shapes):
            return None
        counted = count(operation, *(shape.as_list() for shape in shapes))
        if counted is None:
            return None
        total += counted
    return total


def _of_matmul(operation, first, second, product):
    transposed = operation.get_attr("transpose_a")
    return math.prod(product) * first[0 if transposed else 1]


def _of_batch_matmul(operation, first, second, product):
    transposed = operation.get_attr("adj_x")
    return math.prod(product) * first[-2 if transposed else -1]


def _of_convolution(operation, image, kernel, result):
    # With groups a kernel sees a part of the channels, and is as much smaller.
    return math.prod(result) * math.prod(kernel[:-1])


def _of_depthwise_convolution(operation, image, kernel, result):
    return math.prod(result) * math.prod(kernel[:2])


def _of_transposed_convolution(operation, sizes, kernel, image, result):
    return math.prod(image) * math.prod(kernel[:-1])


def _of_einsum(operation, *shapes):
    equation = operation.get_attr("equation").decode()
    if "." in equation:
        return None
    terms = equation.split("->")[0].split(",")
    sizes = {
        axis: size
        for term, shape in zip(terms, shapes[:-1], strict=True)
        for axis, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values())


# What runs other functions, or an unknown number of times.
_HIDING = {
    "Case",
    "CudnnRNN",
    "CudnnRNNV3",
    "EagerPyFunc",
    "If",
    "PartitionedCall",
    "PyFunc",
    "PyFuncStateless",
    "SparseTensorDenseMatMul",
    "StatefulPartitionedCall",
    "StatelessCase",
    "StatelessIf",
    "StatelessWhile",
    "While",
    "XlaLaunch",
}
_MULTIPLY_ADDS: dict[str, typing.Callable] = {
    "BatchMatMulV2": _of_batch_matmul,
    "BatchMatMulV3": _of_batch_matmul,
    "Conv2D": _of_convolution,
    "Conv2DBackpropInput": _of_transposed_convolution,
    "Conv3D": _of_convolution,
    "Conv3DBackpropInputV2": _of_transposed_convolution,
    "DepthwiseConv2dNative": _of_depthwise_convolution,
    "Einsum": _of_einsum,
    "MatMul": _of_matmul,
}

import math
import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_compat import get_strategy


def add_control_dependency(tensors, inputs):
    # A dependency of the operations would also delay the reading of their
    # weights, which then costs a copy.
    with tf.control_dependencies(tensors):
        return tf.nest.map_structure(
            lambda x: x if x is None else tf.identity(x), inputs
        )


def has_several_processes(model):
    return isinstance(
        get_strategy(model), tf.distribute.MultiWorkerMirroredStrategy
    )


def is_concrete(tensor):
    return hasattr(tensor, "numpy")


def is_distributed(model):
    return get_strategy(model) is not None


def is_inside_function():
    return tf.inside_function()


def is_free_to_read(tensor):
    return "CPU" in tensor.device


def makes_variables_in_steps(model):
    return not is_distributed(model)


def outside_of_functions():
    return tf.init_scope()


def sum_over_replicas(value):
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce("sum", value)


def compile_inference(function, variables):
    # Compiled once for batches of all sizes.
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


def count_macs(function, inputs):
    specs = keras.tree.map_structure(
        lambda x: tf.TensorSpec((1, *x.shape[1:]), x.dtype), inputs
    )
    # Inlines the functions that `function` calls, for example for groups.
    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        graph = tf.function(function).get_concrete_function(specs).graph
    finally:
        tf.config.run_functions_eagerly(eager)
    total = 0
    for operation in graph.get_operations():
        calls_functions = any(
            attribute.type in ("func", "list(func)")
            for attribute in operation.op_def.attr
        )
        if calls_functions or operation.type in _OPAQUE:
            return None
        if operation.type in _MACS:
            tensors = [*operation.inputs, operation.outputs[0]]
            shapes = [tensor.shape for tensor in tensors]
            if not all(shape.is_fully_defined() for shape in shapes):
                return None
            counted = _MACS[operation.type](operation, *shapes)
            if counted is None:
                return None
            total += counted
    return total


def _count_product(operation, first, second, product):
    # Either operand may be transposed.
    return math.prod(product) * math.prod(first[-2:]) // product[-2]


def _count_convolution(operation, image, kernel, result):
    # The kernel of a depthwise convolution has its outputs in two axes.
    is_depthwise = operation.type == "DepthwiseConv2dNative"
    taps = math.prod(kernel[:2] if is_depthwise else kernel[:-1])
    return math.prod(_join_batches(operation, result)) * taps


def _count_transposed(operation, sizes, kernel, image, result):
    return math.prod(image) * math.prod(kernel[:-1])


def _join_batches(operation, result):
    """Returns the shape of the result of a convolution that may be dilated."""
    # With dilation, TensorFlow pads and splits an image into several ones.
    consumers = operation.outputs[0].consumers()
    for consumer in consumers:
        if consumer.type == "Squeeze":
            consumers.extend(consumer.outputs[0].consumers())
        elif consumer.type == "BatchToSpaceND":
            return consumer.outputs[0].shape
    return result


def _count_einsum(operation, *shapes):
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


_OPAQUE = {
    "CudnnRNN",
    "CudnnRNNV3",
    "EagerPyFunc",
    "PyFunc",
    "PyFuncStateless",
    "SparseTensorDenseMatMul",
}
_MACS: dict[str, typing.Callable] = {
    "BatchMatMulV2": _count_product,
    "BatchMatMulV3": _count_product,
    "Conv2D": _count_convolution,
    "Conv2DBackpropInput": _count_transposed,
    "Conv3D": _count_convolution,
    "Conv3DBackpropInputV2": _count_transposed,
    "DepthwiseConv2dNative": _count_convolution,
    "Einsum": _count_einsum,
    "MatMul": _count_product,
}

import math
import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_compat import get_strategy


def add_control_dependency(tensors, inputs):
    # Holding back whole operations instead of their inputs would also hold back
    # the reading of their weights, which then costs a copy.
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


def count_macs(function, inputs):
    specs = keras.tree.map_structure(
        lambda x: tf.TensorSpec((1, *x.shape[1:]), x.dtype), inputs
    )
    graph = tf.function(function).get_concrete_function(specs).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type in _OPAQUE:
            return None
        count = _MACS.get(operation.type)
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


def _count_matmul(operation, first, second, product):
    transposed = operation.get_attr("transpose_a")
    return math.prod(product) * first[0 if transposed else 1]


def _count_batch_matmul(operation, first, second, product):
    transposed = operation.get_attr("adj_x")
    return math.prod(product) * first[-2 if transposed else -1]


def _count_convolution(operation, image, kernel, result):
    # With groups, a kernel sees only a part of the channels and is smaller.
    return math.prod(result) * math.prod(kernel[:-1])


def _count_depthwise_convolution(operation, image, kernel, result):
    return math.prod(result) * math.prod(kernel[:2])


def _count_transposed_convolution(operation, sizes, kernel, image, result):
    return math.prod(image) * math.prod(kernel[:-1])


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


# These run other functions, or run an unknown number of times.
_OPAQUE = {
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
_MACS: dict[str, typing.Callable] = {
    "BatchMatMulV2": _count_batch_matmul,
    "BatchMatMulV3": _count_batch_matmul,
    "Conv2D": _count_convolution,
    "Conv2DBackpropInput": _count_transposed_convolution,
    "Conv3D": _count_convolution,
    "Conv3DBackpropInputV2": _count_transposed_convolution,
    "DepthwiseConv2dNative": _count_depthwise_convolution,
    "Einsum": _count_einsum,
    "MatMul": _count_matmul,
}

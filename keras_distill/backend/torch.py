import keras
import torch
from torch.nn.attention import SDPBackend
from torch.nn.attention import sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def compile_inference(function, variables):
    def call(inputs):
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        with torch.no_grad():
            return function(inputs)

    return call


def count_macs(function, inputs):
    examples = keras.tree.map_structure(
        lambda x: keras.ops.zeros(
            (1, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype)
        ),
        inputs,
    )
    counter = FlopCounterMode(display=False)
    # It does not see fused attention.
    unfused = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), unfused, counter:
        function(examples)
    return counter.get_total_flops() // 2


def is_concrete(tensor):
    return not tensor.is_meta and not torch.compiler.is_compiling()


def is_free_to_read(tensor):
    return tensor.device.type == "cpu"


def without_gradient():
    return torch.no_grad()

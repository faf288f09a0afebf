import keras
import torch
from torch.nn.attention import SDPBackend
from torch.nn.attention import sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from keras_distill.backend.in_place import call_step as call_step
from keras_distill.backend.in_place import is_ready as is_ready
from keras_distill.backend.in_place import (
    keeping_variables as keeping_variables,
)
from keras_distill.backend.in_place import read_failure as read_failure
from keras_distill.backend.in_place import run_step as run_step
from keras_distill.backend.keras_internals import in_symbolic_scope
from keras_distill.backend.without_strategy import (
    MultiWorkerFit as MultiWorkerFit,
)
from keras_distill.backend.without_strategy import unscale_loss as unscale_loss

# Whether a step of Keras stops at a label that is no class. PyTorch passes over
# -100, and on a GPU an error leaves the process without it.
CHECKS_LABELS = False


class NumericsError(ArithmeticError):
    """A step met impossible values."""


def check_finite(x, message):
    """Returns `x`, or stops the step where it holds a NaN or an infinity.

    `torch.compile` has no such check: under `jit_compile=True` the tensor is
    returned as it is.

    Args:
        x: Float tensor.
        message: Text that the error begins with.

    Returns:
        The tensor.

    Raises:
        NumericsError: If it holds one.
    """
    symbolic = x.is_meta or in_symbolic_scope()
    compiled = torch.compiler.is_compiling()
    if not (symbolic or compiled) and not torch.isfinite(x).all():
        raise NumericsError(message)
    return x


def without_gradient():
    """Returns a context in which nothing is recorded for a gradient."""
    return torch.no_grad()


def is_distributed(model):
    """Whether a model trains on several devices."""
    del model
    return False


def has_several_processes(model):
    """Whether a model trains in several processes, each with its data."""
    del model
    return False


def makes_variables_in_steps(model):
    """Whether the first step of a model may still make metrics."""
    del model
    return True


def after(tensors, inputs):
    """Returns inputs that are there no sooner than some other tensors.

    PyTorch runs everything in the order of the program.
    """
    del tensors
    return inputs


def compile_inference(function, variables):
    """Returns a function `inputs -> outputs` without a gradient.

    Args:
        function: Function of a batch of inputs.
        variables: The Keras variables that it reads.
    """
    del variables

    def call(inputs):
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        with torch.no_grad():
            return function(inputs)

    return call


def count_multiply_adds(function, inputs):
    """Counts the multiplications, each with an addition, of one example.

    Those of matrix products and convolutions. What else there is (activations,
    normalizations, pooling) is small beside them and does not count.

    Args:
        function: Function of a batch of inputs.
        inputs: Structure of inputs; only shapes and dtypes matter.

    Returns:
        An integer.
    """
    examples = keras.tree.map_structure(
        lambda x: keras.ops.zeros(
            (1, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype)
        ),
        inputs,
    )
    counter = FlopCounterMode(display=False)
    # Of attention in one piece it sees nothing.
    in_parts = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), in_parts, counter:
        function(examples)
    return counter.get_total_flops() // 2

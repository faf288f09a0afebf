"""Default implementations, for backends that do not override them."""

import contextlib


def add_control_dependency(tensors, inputs):
    """Returns `inputs` that are computed after `tensors`.

    Args:
        tensors: List of tensors to wait for.
        inputs: Structure of tensors and `None`.
    """
    del tensors
    return inputs


def compile_inference(function, variables):
    """Returns a compiled function `inputs -> outputs`.

    Args:
        function: Function of a batch of inputs.
        variables: The Keras variables that it reads.
    """
    raise NotImplementedError


def count_macs(function, inputs):
    """Counts the multiply-accumulate operations (MACs) for one example.

    It counts those of matrix products and convolutions. Activations,
    normalizations and pooling are small beside them and do not count.

    Args:
        function: Function of a batch of inputs.
        inputs: Structure of inputs. Only shapes and dtypes matter.

    Returns:
        An integer; or `None` if loops or branches hide what is computed.
    """
    raise NotImplementedError


def has_several_processes(model) -> bool:
    """Whether a model trains in several processes, each with its own data."""
    del model
    return False


def is_concrete(tensor) -> bool:
    """Whether a tensor has a value, and is not a part of a program."""
    raise NotImplementedError


def is_distributed(model) -> bool:
    """Whether a model trains on several devices."""
    del model
    return False


def is_free_to_read(tensor) -> bool:
    """Whether reading a tensor does not wait for a device."""
    raise NotImplementedError


def is_inside_function() -> bool:
    """Whether a function of the user is being traced."""
    return False


def keeping_variables(model):
    """Returns a context that restores variables if an error escapes."""
    del model
    return contextlib.nullcontext()


def makes_variables_in_steps(model) -> bool:
    """Whether the first step of a model can still create variables."""
    del model
    return True


def outside_of_functions():
    """Returns a context in which nothing becomes a part of a program."""
    return contextlib.nullcontext()


def sum_over_replicas(value):
    """Returns the sum of a scalar over all replicas."""
    return value


# Returns a context in which no gradient is recorded.
without_gradient = contextlib.nullcontext

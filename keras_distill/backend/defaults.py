"""Default implementations, for backends that do not override them."""

import contextlib

# Steps on JAX are functions of a state.
call_stateless_step = run_stateless_step = None


def add_control_dependency(tensors: list, inputs):
    """Returns a structure of inputs that are computed after `tensors`."""
    return inputs


def compile_inference(function, variables):
    """Returns a compiled function of inputs that reads Keras variables."""
    raise NotImplementedError


def count_macs(function, inputs) -> int | None:
    """Counts the MACs for one example, `None` if a branch or loop hides any."""
    raise NotImplementedError


def has_several_processes(model) -> bool:
    """Whether a model trains in several processes, each with its own data."""
    return False


def is_concrete(tensor) -> bool:
    """Whether a tensor has a value, and is not a part of a program."""
    raise NotImplementedError


def is_distributed(model) -> bool:
    """Whether a model trains on several devices."""
    return False


def is_free_to_read(tensor) -> bool:
    """Whether reading a tensor does not wait for a device."""
    raise NotImplementedError


def is_inside_function() -> bool:
    """Whether a function of the user is being traced."""
    return False


def keeping_variables(model):
    """Returns a context that restores variables if an error escapes."""
    return contextlib.nullcontext()


def makes_variables_in_steps(model) -> bool:
    """Whether the first step of a model can still create variables."""
    return True


def outside_of_functions():
    """Returns a context in which nothing becomes a part of a program."""
    return contextlib.nullcontext()


def sum_over_replicas(value):
    """Returns the sum of a scalar over all replicas."""
    return value


# Returns a context in which no gradient is recorded.
without_gradient = contextlib.nullcontext

"""What a backend does where its own module says nothing else."""

import contextlib

from keras import ops


def add_control_dependency(tensors, inputs):
    """Returns `inputs` that are computed after `tensors`.

    Args:
        tensors: List of tensors to wait for.
        inputs: Structure of tensors and `None`.
    """
    del tensors
    return inputs


def call_step(model, function, args):
    """Calls a `train_function` or `test_function` of Keras.

    Returns:
        What the function returns, and its logs.
    """
    del model
    logs = function(*args)
    return logs, logs


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


def run_step(model, prepare, step, args, report):
    """Takes one training or test step.

    Args:
        model: The `Distiller`.
        prepare: Function from the data of a batch to what `step` takes.
        step: `train_step` or `test_step` of `keras.Model`.
        args: The arguments of the step.
        report: Variable among the `metrics_variables` of the model.

    Returns:
        What the step returns, its logs, and the value of `report` after it.
    """
    del model
    (data,) = args
    logs = step(prepare(data))
    return logs, logs, ops.copy(report)


def sum_over_replicas(value):
    """Returns the sum of a scalar over all replicas."""
    return value


def unscale_loss(value):
    """Returns a loss as it is logged."""
    return value


def without_gradient():
    """Returns a context in which no gradient is recorded."""
    return contextlib.nullcontext()

"""What TensorFlow and PyTorch share: steps that change variables in place."""

import contextlib


def call_step(model, function, args):
    """Calls a step that Keras has compiled.

    Args:
        model: The `Distiller`.
        function: `train_function` or `test_function` as Keras made it.
        args: Its arguments.

    Returns:
        What the function returns; and `None`, as all that it noted is in the
        variables of `BatchCheck`.
    """
    del model
    return function(*args), None


def keeping_variables(model):
    """Returns a context after whose errors a model has its variables.

    Here it never loses them.
    """
    del model
    return contextlib.nullcontext()


def run_step(model, prepare, step, args, check):
    """Takes one training or test step.

    Args:
        model: The `Distiller`.
        prepare: Function from the data of a batch to what `step` takes.
        step: `train_step` or `test_step` of `keras.Model`.
        args: The arguments of the step.
        check: `BatchCheck`.

    Returns:
        What the step returns.
    """
    del model, check
    (data,) = args
    return step(prepare(data))


def is_ready(notes):
    """Whether there is something to read."""
    return notes is not None


def read_failure(notes):
    """Raises the error of a step that could not stop. Here each can."""

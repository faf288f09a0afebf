import contextlib
import math
import threading
import typing

import jax
import keras
import numpy as np
from jax import numpy as jnp

from keras_distill.backend.without_strategy import (
    MultiWorkerFit as MultiWorkerFit,
)
from keras_distill.backend.without_strategy import unscale_loss as unscale_loss

# Whether a step of Keras stops at a label that is no class.
CHECKS_LABELS = False

# The entry of the logs that holds what a step has noted.
_NOTES = "_keras_distill_notes"


class NumericsError(ArithmeticError):
    """A step met impossible values.

    Args:
        message: What is wrong.
        batch: Number of the batch in its epoch, from 1, if it is known.
    """

    def __init__(self, message, batch=None):
        super().__init__(message)
        self.batch = batch


# A compiled step can not stop. It notes the number of a message instead and
# keeps the weights, as do the steps after it, until somebody finds the time to
# read what it noted: to wait for each would leave the device without work.
_messages: list[str] = []
_tracing = threading.local()


def check_finite(x, message):
    """Returns `x`, or notes that it holds a NaN or an infinity.

    A step of a `Distiller` that notes one changes no weight, and nor do those
    after it. Outside of these steps a compiled function goes on.

    Args:
        x: Float tensor.
        message: Text that the error begins with.

    Returns:
        The tensor.

    Raises:
        NumericsError: At once, outside of these steps and where nothing is
            compiled.
    """
    finite = jnp.isfinite(x).all()
    failure = getattr(_tracing, "failure", None)
    if failure is None:
        if not isinstance(finite, jax.core.Tracer) and not finite:
            raise NumericsError(message)
    else:
        if message not in _messages:
            _messages.append(message)
        number = _messages.index(message) + 1.0
        # The first one counts.
        unchanged = finite | (failure.value != 0)
        failure.assign(jnp.where(unchanged, failure.value, number))
    return x


def read_failure(notes):
    """Raises the error that a step noted.

    Args:
        notes: What `call_step` returned, or `None`.

    Raises:
        NumericsError: If there is one.
    """
    if notes is None:
        return
    failure, batch, *_ = np.asarray(notes)
    if failure:
        raise NumericsError(_messages[int(failure) - 1], int(batch))


def is_ready(notes):
    """Whether `read_failure` need not wait for a device.

    Of several processes all have to say the same.
    """
    return notes is not None and jax.process_count() == 1 and notes.is_ready()


class _Data(typing.NamedTuple):
    """A batch, and what else a step reads."""

    batch: typing.Any
    inputs: list


def call_step(model, function, args):
    """Calls a step that Keras has compiled.

    The present values of what else it reads travel with the batch: what is not
    among its arguments a compiled step knows only as a constant.

    Args:
        model: The `Distiller`.
        function: `train_function` or `test_function` as Keras made it.
        args: Its arguments: a state and an iterator of batches.

    Returns:
        What the function returns; and the values of `BatchCheck.variables`
        after it, which are in nobody's reach else during `fit`.
    """
    state, batches = args
    values = [variable.value for variable in model.step_inputs()]
    logs, state = function(state, (_Data(batch, values) for batch in batches))
    notes = logs.pop(_NOTES)
    return (logs, state), notes


def run_step(model, prepare, step, args, check):
    """Takes one training or test step.

    Args:
        model: The `Distiller`.
        prepare: Function from the data of a batch to what `step` takes.
        step: `train_step` or `test_step` of `keras.Model`.
        args: The arguments of the step: a state and the data.
        check: `BatchCheck`.

    Returns:
        Logs and the new state.
    """
    state, data = args
    values = None
    if isinstance(data, _Data):
        data, values = data
    weights, metrics = state[:-1], state[-1]
    names = ("trainable_variables", "non_trainable_variables")
    known = [
        pair
        for name, part in zip(names, weights, strict=False)
        for pair in zip(getattr(model, name), part, strict=True)
    ]
    known += zip(model.metrics_variables, metrics, strict=True)
    with _bound(model.step_inputs(), values), _noting(check.failure):
        with keras.StatelessScope(state_mapping=known) as scope:
            failed, before = check.failure.value, check.batches.value
            data = prepare(data)
            # It stays at the batch that failed.
            now = jnp.where(failed == 0, check.batches.value, before)
            check.batches.assign(now)
        metrics = [
            scope.get_current_value(variable)
            for variable in model.metrics_variables
        ]
        logs, (*changed, metrics) = step((*weights, metrics), data)
    numbers = {id(v): n for n, v in enumerate(model.metrics_variables)}
    notes = [metrics[numbers[id(each)]] for each in check.variables]
    kept = jax.tree.map(
        lambda old, new: jnp.where(notes[0] == 0, new, old),
        list(weights),
        changed,
    )
    return {**logs, _NOTES: jnp.stack(notes)}, (*kept, metrics)


@contextlib.contextmanager
def keeping_variables(model):
    """Returns a context after whose errors a model has its variables.

    For the time of `fit` and `predict` Keras takes the values out of them, and
    does not put them back where the first step raises an error.
    """
    variables = [*model.variables, *model.metrics_variables]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        variables += optimizer.variables
    values = [variable._value for variable in variables]
    try:
        yield
    except BaseException:
        # If a step was taken, to what it returned.
        model.jax_state_sync()
        for variable, value in zip(variables, values, strict=True):
            lost = variable._value is None
            if lost and value is not None and not value.is_deleted():
                variable._value = value
        raise


@contextlib.contextmanager
def _noting(failure):
    outer = getattr(_tracing, "failure", None)
    _tracing.failure = failure
    try:
        yield
    finally:
        _tracing.failure = outer


@contextlib.contextmanager
def _bound(variables, values):
    """Gives variables other values for the time of a trace.

    A `keras.StatelessScope` does so too, but the one that Keras opens inside
    of it hides it.
    """
    if values is None:
        yield
        return
    former = [variable._value for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable._value = value
        yield
    finally:
        for variable, value in zip(variables, former, strict=True):
            variable._value = value


def without_gradient():
    """Returns a context in which nothing is recorded for a gradient.

    In JAX that is so wherever it is not asked for.
    """
    return contextlib.nullcontext()


def is_distributed(model):
    """Whether a model trains on several devices."""
    del model
    return keras.distribution.distribution() is not None


def has_several_processes(model):
    """Whether a model trains in several processes, each with its data."""
    del model
    return jax.process_count() > 1


def makes_variables_in_steps(model):
    """Whether the first step of a model may still make metrics."""
    del model
    return False


def after(tensors, inputs):
    """Returns inputs that are there no sooner than some other tensors.

    Args:
        tensors: List of tensors to wait for.
        inputs: Structure of tensors and `None`.

    Returns:
        The same structure, of the same values.
    """
    _, inputs = jax.lax.optimization_barrier((tensors, inputs))
    return inputs


def compile_inference(function, variables):
    """Returns a compiled function `inputs -> outputs`.

    Args:
        function: Function of a batch of inputs.
        variables: The Keras variables that it reads.
    """

    @jax.jit
    def compute(values, inputs):
        with _bound(variables, values), keras.StatelessScope():
            return function(inputs)

    def call(inputs):
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        return compute([variable.value for variable in variables], inputs)

    return call


def count_multiply_adds(function, inputs):
    """Counts the multiplications, each with an addition, of one example.

    Those of matrix products and convolutions. What else there is (activations,
    normalizations, pooling) is small beside them and does not count.

    Args:
        function: Function of a batch of inputs.
        inputs: Structure of inputs; only shapes and dtypes matter.

    Returns:
        An integer; or `None` where loops or branches hide what is computed.
    """
    examples = keras.tree.map_structure(
        lambda x: jnp.zeros(
            (1, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype)
        ),
        inputs,
    )
    with keras.StatelessScope():
        jaxpr = jax.make_jaxpr(function)(examples)
    return _count(jaxpr.jaxpr)


def _count(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in ("cond", "scan", "while"):
            return None
        if name == "dot_general":
            total += _of_product(equation)
        elif name == "conv_general_dilated":
            total += _of_convolution(equation)
        for inner in jax.core.jaxprs_in_params(equation.params):
            counted = _count(inner)
            if counted is None:
                return None
            total += counted
    return total


def _of_product(equation):
    (contracted, _), _ = equation.params["dimension_numbers"]
    first = equation.invars[0].aval.shape
    sums = math.prod(first[axis] for axis in contracted)
    return math.prod(equation.outvars[0].aval.shape) * sums


def _of_convolution(equation):
    kernel = equation.invars[1].aval.shape
    outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    result = math.prod(equation.outvars[0].aval.shape)
    # Of a transposed convolution, zeros lie between the pixels.
    zeros = math.prod(equation.params["lhs_dilation"])
    return result * math.prod(kernel) // outputs // zeros

import contextlib
import math
import typing

import jax
import keras
from jax import numpy as jnp

try:
    from jax.extend.core import jaxprs_in_params
except ImportError:
    # Before JAX 0.7.
    from jax.core import jaxprs_in_params

from keras_distill.backend.keras_compat import get_value
from keras_distill.backend.keras_compat import set_value


class _Batch(typing.NamedTuple):
    """A batch, and the values of `list_step_variables`."""

    data: typing.Any
    values: list


def add_control_dependency(tensors, inputs):
    _, inputs = jax.lax.optimization_barrier((tensors, inputs))
    return inputs


def call_stateless_step(function, args, variables):
    """Calls a `train_function` of Keras; returns its result and its logs."""
    # The values of variables that Keras does not pass into the step travel with
    # the batch. Otherwise they become constants of the program.
    state, batches = args
    values = [variable.value for variable in variables]
    result = function(state, (_Batch(batch, values) for batch in batches))
    return result, result[0]


def compile_inference(function, variables):
    @jax.jit
    def compute(values, inputs):
        with _bound(variables, values), keras.StatelessScope():
            return function(inputs)

    def call(inputs):
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        return compute([variable.value for variable in variables], inputs)

    return call


def count_macs(function, inputs):
    examples = keras.tree.map_structure(
        lambda x: jnp.zeros(
            (1, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype)
        ),
        inputs,
    )
    with keras.StatelessScope():
        program = jax.make_jaxpr(function)(examples)
    return _count_jaxpr(program.jaxpr)


def has_several_processes(model):
    return jax.process_count() > 1


def is_concrete(tensor):
    return not isinstance(tensor, jax.core.Tracer)


def is_distributed(model):
    return keras.distribution.distribution() is not None


def is_free_to_read(tensor):
    # All processes have to read at the same time.
    return jax.process_count() == 1 and tensor.is_ready()


@contextlib.contextmanager
def keeping_variables(model):
    # `fit` and `predict` take the values out of the variables, and do not put
    # them back if the first step raises an error.
    variables = [*model.variables, *model.metrics_variables]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        variables += optimizer.variables
    values = list(map(get_value, variables))
    try:
        yield
    except BaseException:
        # If a step was taken, this restores what it returned.
        model.jax_state_sync()
        for variable, value in zip(variables, values, strict=True):
            lost = get_value(variable) is None
            if lost and value is not None and not value.is_deleted():
                set_value(variable, value)
        raise


def makes_variables_in_steps(model):
    return False


def outside_of_functions():
    return jax.ensure_compile_time_eval()


def run_stateless_step(model, prepare, step, args, report):
    """Takes a step of Keras; returns its result, logs and report."""
    state, data = args
    values = None
    if isinstance(data, _Batch):
        data, values = data
    weights, metrics = state[:-1], state[-1]
    names = ("trainable_variables", "non_trainable_variables")
    known = [
        pair
        for name, part in zip(names, weights, strict=False)
        for pair in zip(getattr(model, name), part, strict=True)
    ]
    known += zip(model.metrics_variables, metrics, strict=True)
    with _bound(model.list_step_variables(), values):
        with keras.StatelessScope(state_mapping=known) as scope:
            data = prepare(data)
        metrics = list(map(scope.get_current_value, model.metrics_variables))
        logs, state = step((*weights, metrics), data)
    for variable, value in zip(model.metrics_variables, state[-1], strict=True):
        if variable is report:
            return (logs, state), logs, value
    raise AssertionError


@contextlib.contextmanager
def _bound(variables, values):
    """Gives variables other values during a trace."""
    # Keras opens a `keras.StatelessScope` in its step, which would hide one
    # that is opened here.
    if values is None:
        yield
        return
    former = list(map(get_value, variables))
    try:
        for variable, value in zip(variables, values, strict=True):
            set_value(variable, value)
        yield
    finally:
        for variable, value in zip(variables, former, strict=True):
            set_value(variable, value)


def _count_jaxpr(jaxpr) -> int | None:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in ("cond", "scan", "while"):
            return None
        shapes = [variable.aval.shape for variable in equation.invars[:2]]
        outputs = equation.outvars[0].aval.shape if equation.outvars else ()
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += math.prod(outputs) * math.prod(
                shapes[0][axis] for axis in contracted
            )
        elif name == "conv_general_dilated":
            layout = equation.params["dimension_numbers"]
            # A transposed convolution multiplies each input with the kernel,
            # and other convolutions compute each output from it.
            positions = min(
                math.prod(shapes[0][axis] for axis in layout.lhs_spec[2:]),
                math.prod(outputs[axis] for axis in layout.out_spec[2:]),
            )
            batch = shapes[0][layout.lhs_spec[0]]
            total += batch * positions * math.prod(shapes[1])
        for inner in jaxprs_in_params(equation.params):
            counted = _count_jaxpr(inner)
            if counted is None:
                return None
            total += counted
    return total

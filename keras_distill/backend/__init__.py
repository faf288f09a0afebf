"""The few functions that differ between the backends of Keras.

`defaults.py` has all of them. The module of a backend has those that are
different there.
"""

import importlib

import keras

from keras_distill.backend import defaults

_BACKENDS = ("jax", "tensorflow", "torch")

_name = keras.backend.backend()
if _name not in _BACKENDS:
    raise ImportError(
        "keras_distill trains on the backends "
        f"{', '.join(map(repr, _BACKENDS))} of Keras. Set the environment "
        "variable KERAS_BACKEND to one of them. "
        f"Received: keras.backend.backend()={_name!r}"
    )
_backend = importlib.import_module(f"{__name__}.{_name}")


def _find(name):
    return getattr(_backend, name, None) or getattr(defaults, name)


add_control_dependency = _find("add_control_dependency")
compile_inference = _find("compile_inference")
count_macs = _find("count_macs")
has_several_processes = _find("has_several_processes")
is_concrete = _find("is_concrete")
is_distributed = _find("is_distributed")
is_free_to_read = _find("is_free_to_read")
is_inside_function = _find("is_inside_function")
keeping_variables = _find("keeping_variables")
makes_variables_in_steps = _find("makes_variables_in_steps")
outside_of_functions = _find("outside_of_functions")

# Steps on JAX are functions of a state. On other backends these are `None`.
call_stateless_step = getattr(_backend, "call_stateless_step", None)
run_stateless_step = getattr(_backend, "run_stateless_step", None)

sum_over_replicas = _find("sum_over_replicas")
without_gradient = _find("without_gradient")

# Whether Keras feeds its steps from `tf.data`, whatever type the data has.
USES_TF_DATA = _name == "tensorflow"

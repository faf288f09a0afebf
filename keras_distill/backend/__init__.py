"""The few lines that differ between the backends of Keras.

Each module has what is named here, some of it from a module that two of them
share; that of the present backend is used.
"""

import importlib

import keras

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

CHECKS_LABELS = _backend.CHECKS_LABELS
MultiWorkerFit = _backend.MultiWorkerFit
NumericsError = _backend.NumericsError
after = _backend.after
call_step = _backend.call_step
check_finite = _backend.check_finite
compile_inference = _backend.compile_inference
count_multiply_adds = _backend.count_multiply_adds
has_several_processes = _backend.has_several_processes
is_distributed = _backend.is_distributed
is_ready = _backend.is_ready
keeping_variables = _backend.keeping_variables
makes_variables_in_steps = _backend.makes_variables_in_steps
read_failure = _backend.read_failure
run_step = _backend.run_step
unscale_loss = _backend.unscale_loss
without_gradient = _backend.without_gradient

# Whether Keras feeds its steps from `tf.data`, whatever the data come as.
USES_TF_DATA = _name == "tensorflow"

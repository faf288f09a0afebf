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


def __getattr__(name):
    return getattr(_backend, name, None) or getattr(defaults, name)


# Whether Keras feeds its steps from `tf.data`, whatever type the data has.
USES_TF_DATA = _name == "tensorflow"

"""Whose errors are raised."""

import pathlib
import traceback

import keras

import keras_distill

_OURS, _KERAS = (
    pathlib.Path(package.__file__).parent for package in (keras_distill, keras)
)

# Other code that checks values: are they tensors or images, and do all arrays
# have the same number of examples?
_ELSEWHERE = {
    *("constant_op.py", "core.py", "tensor_util.py", "numpy_compat.py"),
    *("matplotlib", "data_adapters"),
}
_TEXTS = (
    "Cast string to float is not supported",
    "out-of-range integer",
    "Maximum allowed size exceeded",
    "Cannot compute the max of an empty tensor",
    # In a pipeline, TensorFlow puts an error into another one.
    "StoreError",
    "in user code",
)


def is_ours(error: BaseException) -> bool:
    """Whether `keras_distill` raised an error, instead of what it called."""
    return _OURS in _find_path(error).parents


def is_clear(error: BaseException) -> bool:
    """Whether an error is a `raise` of ours or of Keras, or is as clear."""
    path = _find_path(error)
    if set(path.parts) & _ELSEWHERE or any(t in str(error) for t in _TEXTS):
        return True
    is_known = is_ours(error) or _KERAS in path.parents
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return is_known and line.startswith("raise")


def _find_path(error):
    """Returns the path of the file that raised an error."""
    return pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)

"""Whose errors are raised."""

import pathlib
import traceback

import keras

import keras_distill

_OURS, _KERAS = (
    pathlib.Path(package.__file__).parent for package in (keras_distill, keras)
)


def is_ours(error: BaseException) -> bool:
    """Whether `keras_distill` raised an error, instead of what it called."""
    return _OURS in _find_path(error).parents


def is_raised_on_purpose(error: BaseException) -> bool:
    """Whether the last line of a traceback is a `raise` of ours or of Keras."""
    is_known = is_ours(error) or _KERAS in _find_path(error).parents
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return is_known and line.startswith("raise")


def _find_path(error):
    """Returns the path of the file that raised an error."""
    return pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)

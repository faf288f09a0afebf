"""Checks of arguments. Errors contain the expected and the received value."""

import difflib
import math
import numbers
import sys

import numpy as np
from keras import ops

from keras_distill.backend import is_concrete

WRONG_TARGETS_MESSAGE = (
    "The soft targets do not hold at the temperature of the distillation loss "
    "or metric, or are for a different number of classes than the student has"
)


def check_number(
    argument: str, value, *, low, high=math.inf, low_allowed=True
) -> float:
    """Returns `value` as a finite float in a range."""
    if high != math.inf:
        expected = f"a number between {low:g} and {high:g}"
    elif low == -math.inf:
        expected = "a finite number"
    elif low_allowed:
        expected = f"a finite number that is at least {low:g}"
    else:
        expected = f"a finite number greater than {low:g}"
    # NumPy scalars and 0-d arrays are allowed. Booleans and strings are not.
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    # An integer can be too large for a float.
    low, high = max(low, -sys.float_info.max), min(high, sys.float_info.max)
    valid = (
        not isinstance(number, bool)
        and isinstance(number, numbers.Real)
        and (number > low or (low_allowed and number == low))
        and number <= high
    )
    if not valid:
        raise ValueError(
            f"Expected `{argument}` to be {expected}. "
            f"Received: {argument}={value!r}"
        )
    return float(number)


def check_positive(argument: str, value) -> float:
    """Returns `value` as a positive finite float."""
    return check_number(argument, value, low=0, low_allowed=False)


def check_temperature(argument: str, value) -> float:
    """Returns `value` as a float in the range where softmaxes are exact."""
    # Float32 has too few digits for the logits divided by a higher temperature.
    return check_number(argument, value, low=1e-3, high=1e4)


def check_float_dtype(dtype: str) -> None:
    """Raises a `ValueError` unless a computation is possible in a dtype."""
    if "float" not in dtype:
        raise ValueError(
            "Expected `dtype` to be a floating point dtype, for example "
            f"'float32'. Received: dtype={dtype!r}"
        )


def check_integer(argument: str, value, *, low=-math.inf, high=math.inf) -> int:
    """Returns `value` as an int in a range."""
    valid = not isinstance(value, bool) and isinstance(value, numbers.Integral)
    if not valid or not low <= value <= high:
        expected = "an integer"
        if high != math.inf:
            expected += f", from {low} to {high}"
        elif low != -math.inf:
            expected += f", at least {low}"
        raise ValueError(
            f"Expected `{argument}` to be {expected}. "
            f"Received: {argument}={value!r}"
        )
    return int(value)


def check_class_ids(labels: np.ndarray, num_classes: int, hint="") -> None:
    """Raises a `ValueError` unless labels are integers below `num_classes`."""
    expected = f"Expected labels to be class ids from 0 to {num_classes - 1}. "
    if labels.dtype.kind not in "iufb":
        raise ValueError(f"{expected}Received: labels of dtype {labels.dtype}")
    wrong = labels[
        (labels < 0) | (labels >= num_classes) | (labels != np.round(labels))
    ]
    if wrong.size:
        raise ValueError(f"{expected}{hint}Received: a label of {wrong[0]:g}")


def check_finite(outputs: np.ndarray, position=0) -> None:
    """Raises unless soft targets are finite, `position` is of the first."""
    finite = np.isfinite(outputs)
    if not finite.all():
        raise ValueError(
            "The soft targets are not finite: the teacher's outputs for "
            f"example {find_first(~finite, position)} (the first is 0) contain "
            "NaN or infinity. Check the inputs. A teacher in float16 overflows "
            "above 65504."
        )


def find_first(wrong: np.ndarray, position=0) -> int:
    """Returns the number of the first example with a wrong entry."""
    return position + int(np.argmax(wrong.reshape(len(wrong), -1).any(-1)))


def check_flag(argument: str, value) -> None:
    """Raises a `ValueError` unless `value` is `True` or `False`."""
    if not isinstance(value, bool):
        raise ValueError(
            f"Expected `{argument}` to be True or False. "
            f"Received: {argument}={value!r}"
        )


def check_temperatures(temperatures) -> tuple[float, ...]:
    """Returns one or more distinct positive numbers as a tuple of floats."""
    if not isinstance(temperatures, (list, tuple)) or not temperatures:
        raise ValueError(
            "Expected `temperatures` to be a list or tuple of positive "
            f"numbers. Received: temperatures={temperatures!r}"
        )
    checked = tuple(
        check_temperature("temperatures", temperature)
        for temperature in temperatures
    )
    if len(set(checked)) < len(checked):
        raise ValueError(
            "Expected `temperatures` to be different. "
            f"Received: temperatures={temperatures!r}"
        )
    return checked


def check_given(**arguments) -> None:
    """Raises a `ValueError` if an argument is `None`."""
    for argument, value in arguments.items():
        if value is None:
            raise ValueError(
                f"Expected `{argument}` to be given. Received: {argument}=None"
            )


def check_verbose(verbose) -> int:
    """Returns the `verbose` of a progress bar."""
    if isinstance(verbose, str) and verbose == "auto":
        return 1
    return check_integer("verbose", verbose, low=0, high=2)


def check_weight_rows(sample_weight, values) -> None:
    """Raises a `ValueError` if there is no weight for each value."""
    received = tuple(np.shape(sample_weight))
    expected = tuple(values.shape)
    if received[:1] not in ((), (1,), (None,), expected[:1]) or (
        len(received) > len(expected) and received[-1] != 1
    ):
        raise ValueError(
            "Expected `sample_weight` with one number for each sample, "
            f"{expected[0]} in all. Received: shape {received}"
        )


def require_valid(valid, values):
    """Raises if targets are not valid. In a compiled function, returns NaN."""
    if valid is True:
        return values
    if is_concrete(valid) and not valid:
        raise ValueError(f"{WRONG_TARGETS_MESSAGE}.")
    return ops.where(valid, values, float("nan"))


def check_choice(argument: str, value, known) -> None:
    """Raises a `ValueError` with a suggestion if `value` is not in `known`."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"Unknown `{argument}`. {suggest(str(value), known)} "
            f"Received: {argument}={value!r}"
        )


def may_be_probabilities(rows) -> bool:
    """Whether the rows of an array may be probabilities instead of logits."""
    return bool(
        np.all(rows >= 0) and np.allclose(rows.sum(axis=-1), 1, atol=1e-2)
    )


def shapes_agree(first, second) -> bool:
    """Whether two shapes are equal in all dimensions that are known."""
    return len(first) == len(second) and all(
        None in (a, b) or a == b for a, b in zip(first, second, strict=True)
    )


def suggest(name: str, known) -> str:
    """Returns a sentence with the closest known name, or all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Expected one of {known}."

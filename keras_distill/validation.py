"""Checks of arguments, with errors that say what was expected and received."""

import difflib
import math
import numbers

import numpy as np


def check_number(argument, value, *, low, high=math.inf, low_allowed=True):
    """Returns `value` as a float, or says why it can not be one.

    Args:
        argument: Name of the argument, for the message.
        value: What the user passed.
        low: Smallest allowed value. `-inf` means no bound.
        high: Largest allowed value. `inf` (the default) means no bound; an
            infinite `value` is refused all the same.
        low_allowed: Whether `low` itself is allowed.

    Returns:
        A Python float.

    Raises:
        ValueError: If `value` is not a finite real number in the range.
    """
    if high != math.inf:
        expected = f"a number between {low:g} and {high:g}"
    elif low == -math.inf:
        expected = "a finite number"
    elif low_allowed:
        expected = f"a finite number that is at least {low:g}"
    else:
        expected = f"a finite number greater than {low:g}"
    # NumPy scalars and 0-d arrays are fine, booleans and strings are not.
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    valid = (
        not isinstance(number, bool)
        and isinstance(number, numbers.Real)
        and math.isfinite(number)
        and (number > low or (low_allowed and number == low))
        and number <= high
    )
    if not valid:
        raise ValueError(
            f"Expected `{argument}` to be {expected}. "
            f"Received: {argument}={value!r}"
        )
    return float(number)


def check_integer(argument, value, *, low, high=math.inf):
    """Returns `value` as an int, or says why it can not be one.

    Args:
        argument: Name of the argument, for the message.
        value: What the user passed.
        low: Smallest allowed value.
        high: Largest allowed value. Defaults to no bound.

    Returns:
        A Python int.

    Raises:
        ValueError: If `value` is not an integer in the range.
    """
    valid = not isinstance(value, bool) and isinstance(value, numbers.Integral)
    if not valid or not low <= value <= high:
        expected = (
            f"at least {low}" if high == math.inf else f"from {low} to {high}"
        )
        raise ValueError(
            f"Expected `{argument}` to be an integer, {expected}. "
            f"Received: {argument}={value!r}"
        )
    return int(value)


def check_axis(value):
    """Returns `value` as an int, or says that `axis` can not be it.

    Raises:
        ValueError: If `value` is not an integer.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(
            "Expected `axis` to be an integer, the axis of the classes. "
            f"Received: axis={value!r}"
        )
    return int(value)


def check_flag(argument, value):
    """Refuses what is neither `True` nor `False`.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(
            f"Expected `{argument}` to be True or False. "
            f"Received: {argument}={value!r}"
        )


def check_temperatures(temperatures):
    """Returns temperatures as a tuple of floats.

    Raises:
        ValueError: If they are not distinct positive numbers, one or more.
    """
    if not isinstance(temperatures, (list, tuple)) or not temperatures:
        raise ValueError(
            "Expected `temperatures` to be a list or tuple of positive "
            f"numbers. Received: temperatures={temperatures!r}"
        )
    checked = tuple(
        check_number("temperatures", temperature, low=0, low_allowed=False)
        for temperature in temperatures
    )
    if len(set(checked)) < len(checked):
        raise ValueError(
            "Expected each of `temperatures` once. "
            f"Received: temperatures={temperatures!r}"
        )
    return checked


def check_choice(argument, value, known):
    """Refuses a string that is not among the known ones.

    Raises:
        ValueError: With the one that was probably meant.
    """
    if value not in known:
        raise ValueError(
            f"Unknown `{argument}`. {suggest(str(value), known)} "
            f"Received: {argument}={value!r}"
        )


def look_like_probabilities(rows):
    """Whether an array that should hold logits may hold probabilities.

    Args:
        rows: NumPy array, with the classes along its last axis.
    """
    return bool(
        np.all(rows >= 0) and np.allclose(rows.sum(axis=-1), 1, atol=1e-2)
    )


def shapes_agree(first, second):
    """Whether two shapes are equal, as far as their sizes are known."""
    return len(first) == len(second) and all(
        None in (a, b) or a == b for a, b in zip(first, second, strict=True)
    )


def suggest(name, known):
    """Returns a sentence with the name that was probably meant.

    Args:
        name: The unknown string.
        known: Iterable of the known strings.

    Returns:
        `"Did you mean 'x'?"`, or `"Expected one of ..."` where nothing is
        close.
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Expected one of {known}."

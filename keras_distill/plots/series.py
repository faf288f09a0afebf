"""Lines of measurements that were repeated with several seeds."""

import math
import numbers

import numpy as np

from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes
from keras_distill.validation import check_number

# How much further right than the largest number infinity is drawn.
_INFINITY = 2.5


def draw_series(argument, measured, check, what, xlabel, ylabel, ax):
    """Draws lines over a logarithmic axis: medians, and bands of all seeds.

    Args:
        argument: Name of the argument `measured`, for messages.
        measured: Dict from positive numbers to a measurement, or a list of
            them; or a dict from names to such dicts.
        check: Function `(argument, position)` that returns the position or
            raises `ValueError`.
        what: What the positions are, for messages.
        xlabel: Text at the axis.
        ylabel: Text at the other.
        ax: `matplotlib.axes.Axes`, or `None` for those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a position is not positive, a measurement is no finite
            number, or there is none.
        ImportError: If matplotlib is not installed.
    """
    series = measured
    if not isinstance(measured, dict) or not any(
        isinstance(each, dict) for each in measured.values()
    ):
        series = {"": measured}
    for each in series.values():
        if not isinstance(each, dict) or not each:
            raise ValueError(
                f"Expected `{argument}` to be a dict from {what}, or one from "
                f"names to such dicts. Received: {measured!r}"
            )
    every = sorted(
        {x for each in series.values() for x in each},
        key=lambda x: check(argument, x),
    )
    places = _find_places(every)
    ax = get_axes(ax)
    for (name, values), color in zip(
        series.items(), COLORS * (1 + len(series)), strict=False
    ):
        positions = [x for x in every if x in values]
        lists = [_to_list(argument, values[x]) for x in positions]
        at = [places[x] for x in positions]
        ax.plot(
            at,
            [np.median(each) for each in lists],
            marker="o",
            color=color,
            label=name,
        )
        ax.fill_between(
            at,
            [min(each) for each in lists],
            [max(each) for each in lists],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    ax.set_xscale("log")
    ax.set_xticks(list(places.values()), [_format(x) for x in every])
    ax.minorticks_off()
    if len(series) > 1:
        ax.legend(frameon=False, labelcolor=INK)
    return finish(ax, None, xlabel, ylabel)


def check_positive(argument, position):
    """Returns a number above 0, or raises `ValueError`."""
    return check_number(argument, position, low=0.0, low_allowed=False)


def _find_places(every):
    """Returns where each position is drawn, infinity included."""
    finite = [x for x in every if x != math.inf]
    beyond = _INFINITY * max(finite, default=1.0)
    return {x: beyond if x == math.inf else float(x) for x in every}


def _format(position):
    if position == math.inf:
        return "∞"
    whole = isinstance(position, numbers.Integral)
    return f"{position:,}" if whole else f"{position:g}"


def _to_list(argument, measured):
    """Returns a list of what one or several seeds gave."""
    values = np.atleast_1d(measured)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"Expected `{argument}` to have a number, or a list of them, for "
            f"each key. Received: {measured!r}"
        )
    return [
        check_number(argument, each, low=-math.inf) for each in values.tolist()
    ]

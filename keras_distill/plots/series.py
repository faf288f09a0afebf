"""Plots of measurements over several seeds."""

import itertools
import math
import numbers

import numpy as np

from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes
from keras_distill.validation import check_number

# Infinity is drawn at this multiple of the largest finite position.
_INFINITY_FACTOR = 2.5


def draw_series(argument, measurements, check, expected, xlabel, ylabel, ax):
    """Draws lines of medians with bands over a logarithmic x axis."""
    series = measurements
    if not isinstance(measurements, dict) or not any(
        isinstance(line, dict) for line in measurements.values()
    ):
        series = {"": measurements}
    for line in series.values():
        if not isinstance(line, dict) or not line:
            raise ValueError(
                f"Expected `{argument}` to be a dict from {expected}, or a "
                f"dict from names to such dicts. Received: {measurements!r}"
            )
    positions = sorted(
        {position for line in series.values() for position in line},
        key=lambda position: check(argument, position),
    )
    coordinates = _find_coordinates(positions)
    ax = get_axes(ax)
    for (name, line), color in zip(
        series.items(), itertools.cycle(COLORS), strict=False
    ):
        present = [position for position in positions if position in line]
        x = [coordinates[position] for position in present]
        seeds = [_to_list(argument, line[position]) for position in present]
        ax.plot(
            x,
            [np.median(values) for values in seeds],
            marker="o",
            color=color,
            label=name,
        )
        ax.fill_between(
            x,
            [min(values) for values in seeds],
            [max(values) for values in seeds],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    ax.set_xscale("log")
    ax.set_xticks(list(coordinates.values()), list(map(_format, positions)))
    ax.minorticks_off()
    if len(series) > 1:
        ax.legend(frameon=False, labelcolor=INK)
    return finish(ax, None, xlabel, ylabel)


def _find_coordinates(positions: list) -> dict:
    """Maps each position to a finite x coordinate."""
    finite = [position for position in positions if position != math.inf]
    infinity = _INFINITY_FACTOR * max(finite, default=1.0)
    return {
        position: infinity if position == math.inf else float(position)
        for position in positions
    }


def _format(position) -> str:
    if position == math.inf:
        return "∞"
    is_integer = isinstance(position, numbers.Integral)
    return f"{position:,}" if is_integer else f"{position:g}"


def _to_list(argument: str, seeds) -> list[float]:
    """Returns the values of one or several seeds as a list."""
    values = np.atleast_1d(seeds)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"Expected each value in `{argument}` to be a number or a list of "
            f"numbers. Received: {seeds!r}"
        )
    return [
        check_number(argument, value, low=-math.inf)
        for value in values.tolist()
    ]

"""Plots of measurements over several seeds."""

import itertools
import math

import numpy as np

from keras_distill.plots.style import COLORS
from keras_distill.plots.style import FAINT
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes
from keras_distill.validation import check_number
from keras_distill.validation import check_positive

# Infinity is drawn at this multiple of the largest finite position.
_INFINITY_FACTOR = 2.5


def error_against_examples(errors, ylabel="test errors", ax=None):
    """Plots the error against the number of training examples.

    The line is the median over the seeds. The band spans the minimum and the
    maximum. Soft targets contain more information per example than labels, so a
    student needs fewer examples (Hinton, Vinyals and Dean, 2015, sections 1
    and 6).

    Example:

    ```python
    figure = keras_distill.plots.error_against_examples(
        {
            "labels": {600: [1450, 1490], 6000: [480, 502]},
            "soft targets": {600: [950, 1010], 6000: [280, 300]},
        }
    )
    ```

    Args:
        errors: Dict from the number of examples to an error, or to a list of
            errors with one error for each seed; or a dict from names to such
            dicts.
        ylabel: Label of the y axis. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: the axes of
            a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a number of examples is not positive, if an error is not
            a finite number, or if there are no errors.
        ImportError: If matplotlib is not installed.
    """
    return _draw("errors", errors, "training examples", ylabel, ax)


def error_against_learning_rate(errors, ylabel="test errors", ax=None):
    """Plots the error against the learning rate.

    The line is the median over the seeds. The band spans the minimum and the
    maximum. The gradients of soft targets vary less between training examples
    than the gradients of labels, so you can use a much higher learning rate
    (Hinton, Vinyals and Dean, 2015, section 1).

    Example:

    ```python
    figure = keras_distill.plots.error_against_learning_rate(
        {
            "labels": {0.1: [250, 262], 0.4: [230, 9020]},
            "soft targets": {0.1: [210, 214], 0.4: [190, 201]},
        }
    )
    ```

    Args:
        errors: Dict from the learning rate to an error, or to a list of errors
            with one error for each seed; or a dict from names to such dicts.
        ylabel: Label of the y axis. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: the axes of
            a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a learning rate is not positive, if an error is not a
            finite number, or if there are no errors.
        ImportError: If matplotlib is not installed.
    """
    return _draw("errors", errors, "learning rate", ylabel, ax)


def error_against_temperature(errors, ylabel="test errors", ax=None):
    """Plots the error against the temperature.

    The line is the median over the seeds. The band spans the minimum and the
    maximum. In the paper, all temperatures above 8 give similar results for a
    wide student, and temperatures from 2.5 to 4 are best for a narrow student
    (Hinton, Vinyals and Dean, 2015, section 3).

    Example:

    ```python
    figure = keras_distill.plots.error_against_temperature(
        {
            "800 units": {1: [90, 94], 4: [80, 83], 20: [74, 76]},
            "30 units": {1: [300, 310], 4: [260, 270], 20: [290, 296]},
        }
    )
    ```

    Args:
        errors: Dict from the temperature to an error, or to a list of errors
            with one error for each seed; or a dict from names to such dicts.
            Infinity is the temperature of `LogitMatching`.
        ylabel: Label of the y axis. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: the axes of
            a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive, if an error is not a
            finite number, or if there are no errors.
        ImportError: If matplotlib is not installed.
    """
    return _draw(
        "errors", errors, "temperature", ylabel, ax, allow_infinity=True
    )


def gradient_cosine(cosines, ax=None):
    """Plots how close the gradient of soft targets is to logit matching.

    As the temperature increases, the gradient of `SoftTargetCrossentropy`
    approaches the gradient of `LogitMatching`, so the cosine similarity of the
    two gradients approaches 1 (Hinton, Vinyals and Dean, 2015, section 2.1,
    equations 2 to 4). The line is the median over the seeds. The band spans the
    minimum and the maximum.

    Example:

    ```python
    figure = keras_distill.plots.gradient_cosine(
        {1: [0.41, 0.45], 4: [0.80, 0.83], 20: [0.99, 0.99]}
    )
    ```

    Args:
        cosines: Dict from the temperature to a cosine, or to a list of cosines
            with one cosine for each seed; or a dict from names to such dicts.
        ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: the axes of
            a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive, if a cosine is not a
            finite number, or if there are no cosines.
        ImportError: If matplotlib is not installed.
    """
    ylabel = "cosine with the gradient of logit matching"
    figure = _draw("cosines", cosines, "temperature", ylabel, ax)
    (ax or figure.axes[0]).axhline(1.0, color=FAINT, linewidth=1, zorder=0)
    return figure


def _draw(argument, measurements, xlabel, ylabel, ax, allow_infinity=False):
    """Draws lines of medians with bands over a logarithmic x axis."""

    def check_position(position):
        if allow_infinity and position == math.inf:
            return position
        return check_positive(argument, position)

    lines = _split_lines(argument, measurements)
    positions = sorted(
        {position for line in lines.values() for position in line},
        key=check_position,
    )
    finite = (position for position in positions if position != math.inf)
    limit = _INFINITY_FACTOR * max(finite, default=1.0)
    ax = get_axes(ax)
    for (name, line), color in zip(
        lines.items(), itertools.cycle(COLORS), strict=False
    ):
        present = [position for position in positions if position in line]
        x = np.minimum(present, limit)
        y = [
            [
                check_number(argument, value, low=-math.inf)
                for value in np.ravel(line[position]).tolist()
            ]
            for position in present
        ]
        ax.plot(x, list(map(np.median, y)), marker="o", color=color, label=name)
        ax.fill_between(
            x,
            list(map(min, y)),
            list(map(max, y)),
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    ax.set_xscale("log")
    ax.set_xticks(
        np.minimum(positions, limit),
        [f"{position:,.7g}".replace("inf", "∞") for position in positions],
    )
    ax.minorticks_off()
    if len(lines) > 1:
        ax.legend(frameon=False, labelcolor=INK)
    return finish(ax, None, xlabel, ylabel)


def _split_lines(argument, measurements) -> dict:
    """Returns a dict from the name of each line to its measurements."""
    lines = {"": measurements}
    if isinstance(measurements, dict) and any(
        isinstance(line, dict) for line in measurements.values()
    ):
        lines = measurements
    for line in lines.values():
        if not isinstance(line, dict) or not line:
            raise ValueError(
                f"Expected `{argument}` to be a dict from numbers to "
                f"{argument}, or a dict from names to such dicts. "
                f"Received: {measurements!r}"
            )
    return lines

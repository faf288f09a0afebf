"""Plots of measurements over several seeds."""

import itertools
import math

import numpy as np

from keras_distill.plots import style
from keras_distill.validation import check_number
from keras_distill.validation import check_positive

# Infinity is drawn at this multiple of the largest finite position.
_INFINITY_FACTOR = 2.5


def error_against_examples(errors, ylabel="test errors", ax=None):
    """Plots the error against the number of training examples.

    The line shows the median over the seeds, and the band the range. Soft
    targets contain more information per example than labels, so a student needs
    fewer examples (Hinton, Vinyals and Dean, 2015, sections 1 and 6).

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
        errors: Dict from the number of examples to an error, or to a list with
            an error for each seed; or a dict from names to such dicts.
        ylabel: Label of the y axis. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a number of examples is not positive, or an error is not
            finite.
        ImportError: If matplotlib is not installed.
    """
    return _draw("errors", errors, "training examples", ylabel, ax)


def error_against_learning_rate(errors, ylabel="test errors", ax=None):
    """Plots the error against the learning rate.

    The line shows the median over the seeds, and the band the range. The
    gradients of soft targets vary less between examples than for labels,
    so you can use a much higher learning rate (Hinton, Vinyals and Dean, 2015,
    section 1).

    Example:

    ```python
    figure = keras_distill.plots.error_against_learning_rate(
        {0.1: [210, 214], 0.4: [190, 201], 1.6: [186, 193]}
    )
    ```

    Args:
        errors: Dict from the learning rate to an error, or to a list with an
            error for each seed; or a dict from names to such dicts.
        ylabel: Label of the y axis. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a learning rate is not positive, or an error is not
            finite.
        ImportError: If matplotlib is not installed.
    """
    return _draw("errors", errors, "learning rate", ylabel, ax)


def error_against_temperature(errors, ylabel="test errors", ax=None):
    """Plots the error against the temperature.

    The line shows the median over the seeds, and the band the range. In the
    paper, all temperatures above 8 give similar results for a wide student, and
    temperatures from 2.5 to 4 are best for a narrow student (Hinton, Vinyals
    and Dean, 2015, section 3).

    Example:

    ```python
    figure = keras_distill.plots.error_against_temperature(
        {1: [300, 310], 4: [260, 270], 20: [290, 296]}
    )
    ```

    Args:
        errors: Dict from the temperature to an error, or to a list with an
            error for each seed; or a dict from names to such dicts. Infinity is
            the temperature of `LogitMatching`.
        ylabel: Label of the y axis. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive, or an error is not finite.
        ImportError: If matplotlib is not installed.
    """
    return _draw("errors", errors, "temperature", ylabel, ax, True)


def gradient_cosine(cosines, ax=None):
    """Plots how close the gradient of soft targets is to logit matching.

    As the temperature increases, the gradient of `SoftTargetCrossentropy`
    approaches the gradient of `LogitMatching`, so their cosine similarity
    approaches 1 (Hinton, Vinyals and Dean, 2015, section 2.1, equations 2 to
    4). The line shows the median over the seeds, and the band the range.

    Example:

    ```python
    figure = keras_distill.plots.gradient_cosine(
        {1: [0.41, 0.45], 4: [0.80, 0.83], 20: [0.99, 0.99]}
    )
    ```

    Args:
        cosines: Dict from the temperature to a cosine, or to a list with a
            cosine for each seed; or a dict from names to such dicts.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive, or a cosine is not finite.
        ImportError: If matplotlib is not installed.
    """
    ylabel = "cosine with the gradient of logit matching"
    figure = _draw("cosines", cosines, "temperature", ylabel, ax)
    (ax or figure.axes[0]).axhline(
        1.0, color=style.FAINT, linewidth=1, zorder=0
    )
    return figure


def _draw(argument, measurements, xlabel, ylabel, ax, allow_infinity=False):
    """Draws lines of medians with bands over a logarithmic x axis."""
    lines = _split_lines(argument, measurements)
    positions = set().union(*lines.values())
    finite = positions - {math.inf} if allow_infinity else positions
    for position in finite:
        check_positive(argument, position)
    limit = _INFINITY_FACTOR * max(finite, default=1.0)
    ticks = sorted(positions)
    ax = style.get_axes(ax)
    colors = itertools.cycle(style.COLORS)
    for name, line in lines.items():
        color = next(colors)
        present = sorted(line)
        x = np.minimum(present, limit)
        y = [
            [
                check_number(argument, value, low=-math.inf)
                for value in np.ravel(line[position]).tolist()
            ]
            for position in present
        ]
        ax.plot(x, list(map(np.median, y)), marker="o", color=color, label=name)
        low, high = list(map(min, y)), list(map(max, y))
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    ax.set_xscale("log")
    ax.set_xticks(
        np.minimum(ticks, limit),
        [f"{position:,.7g}".replace("inf", "∞") for position in ticks],
    )
    ax.minorticks_off()
    if len(lines) > 1:
        ax.legend(frameon=False, labelcolor=style.INK)
    return style.finish(ax, None, xlabel, ylabel)


def _split_lines(argument, measurements) -> dict:
    """Returns a dict from the name of each line to its measurements."""
    is_named = isinstance(measurements, dict) and any(
        isinstance(line, dict) for line in measurements.values()
    )
    lines = measurements if is_named else {"": measurements}
    for line in lines.values():
        if not isinstance(line, dict) or not line:
            raise ValueError(
                f"Expected `{argument}` to be a dict from numbers to "
                f"{argument}, or a dict from names to such dicts. "
                f"Received: {measurements!r}"
            )
    return lines

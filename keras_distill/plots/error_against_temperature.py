import numbers

import numpy as np

from keras_distill.losses.temperature import check_temperature
from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes


def error_against_temperature(errors, ylabel="test errors", ax=None):
    """Draws how the error depends on the temperature.

    The line is the median over the seeds, the band goes from the smallest to
    the largest. The paper finds all temperatures above 8 alike for a wide
    student, and those from 2.5 to 4 best for a narrow one (Hinton, Vinyals and
    Dean, 2015, section 3).

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
        errors: Dict from a temperature to an error, or to a list of them, one
            for each seed; or a dict from names to such dicts.
        ylabel: What the errors are. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive, or there is none.
        ImportError: If matplotlib is not installed.
    """
    if not isinstance(errors, dict) or not errors:
        raise ValueError(
            "Expected `errors` to be a dict from temperatures to errors. "
            f"Received: {errors!r}"
        )
    series = (
        errors
        if all(isinstance(each, dict) for each in errors.values())
        else {"": errors}
    )
    ax = get_axes(ax)
    for (name, by_temperature), color in zip(
        series.items(), COLORS * (1 + len(series)), strict=False
    ):
        temperatures = sorted(
            by_temperature, key=lambda t: check_temperature("errors", t)
        )
        values = [_to_list(by_temperature[t]) for t in temperatures]
        ax.plot(
            temperatures,
            [np.median(each) for each in values],
            marker="o",
            color=color,
            label=name,
        )
        ax.fill_between(
            temperatures,
            [min(each) for each in values],
            [max(each) for each in values],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    every = sorted({t for each in series.values() for t in each})
    ax.set_xscale("log")
    ax.set_xticks(every, [f"{t:g}" for t in every])
    ax.minorticks_off()
    if len(series) > 1:
        ax.legend(frameon=False, labelcolor=INK)
    return finish(ax, None, "temperature", ylabel)


def _to_list(errors):
    return [errors] if isinstance(errors, numbers.Number) else list(errors)

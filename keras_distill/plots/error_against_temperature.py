import math

from keras_distill.plots.series import draw_series
from keras_distill.validation import check_positive


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
    return draw_series(
        "errors",
        errors,
        _check_temperature,
        "temperatures to errors",
        "temperature",
        ylabel,
        ax,
    )


def _check_temperature(argument: str, temperature) -> float:
    if temperature == math.inf:
        return temperature
    return check_positive(argument, temperature)

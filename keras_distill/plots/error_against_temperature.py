import math

from keras_distill.plots.series import draw_series
from keras_distill.temperature import check_temperature


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
            for each seed; or a dict from names to such dicts. Infinity is the
            temperature of `LogitMatching`.
        ylabel: What the errors are. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive,
            an error is no finite number, or there is none.
        ImportError: If matplotlib is not installed.
    """
    return draw_series(
        "errors",
        errors,
        _check,
        "temperatures to errors",
        "temperature",
        ylabel,
        ax,
    )


def _check(argument, temperature):
    if temperature == math.inf:
        return temperature
    return check_temperature(argument, temperature)

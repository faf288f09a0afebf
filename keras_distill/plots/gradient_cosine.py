from keras_distill.plots.series import check_positive
from keras_distill.plots.series import draw_series
from keras_distill.plots.style import FAINT


def gradient_cosine(cosines, ax=None):
    """Draws how the gradient of soft targets turns into logit matching.

    With a growing temperature the gradient of `SoftTargetCrossentropy` goes to
    that of `LogitMatching`, so that the cosine between the two goes to 1
    (Hinton, Vinyals and Dean, 2015, section 2.1, equations 2 to 4). The line
    is the median, the band goes from the smallest to the largest.

    Example:

    ```python
    figure = keras_distill.plots.gradient_cosine(
        {1: [0.41, 0.45], 4: [0.80, 0.83], 20: [0.99, 0.99]}
    )
    ```

    Args:
        cosines: Dict from a temperature to a cosine, or to a list of them, one
            for each seed; or a dict from names to such dicts.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a temperature is not positive,
            a cosine is no finite number, or there is none.
        ImportError: If matplotlib is not installed.
    """
    figure = draw_series(
        "cosines",
        cosines,
        check_positive,
        "temperatures to cosines",
        "temperature",
        "cosine with the gradient of logit matching",
        ax,
    )
    (ax or figure.axes[0]).axhline(1.0, color=FAINT, linewidth=1, zorder=0)
    return figure

from keras_distill.plots.series import draw_series
from keras_distill.plots.style import FAINT
from keras_distill.validation import check_positive


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

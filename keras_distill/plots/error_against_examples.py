from keras_distill.plots.series import check_positive
from keras_distill.plots.series import draw_series


def error_against_examples(errors, ylabel="test errors", ax=None):
    """Draws how the error depends on the number of training examples.

    The line is the median over the seeds, the band goes from the smallest to
    the largest. Soft targets say more per example than labels do, so that a
    student needs fewer examples of them (Hinton, Vinyals and Dean, 2015,
    sections 1 and 6).

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
        errors: Dict from a number of examples to an error, or to a list of
            them, one for each seed; or a dict from names to such dicts.
        ylabel: What the errors are. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a number of examples is not positive,
            an error is no finite number, or there is none.
        ImportError: If matplotlib is not installed.
    """
    return draw_series(
        "errors",
        errors,
        check_positive,
        "numbers of examples to errors",
        "training examples",
        ylabel,
        ax,
    )

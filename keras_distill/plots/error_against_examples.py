from keras_distill.plots.series import draw_series
from keras_distill.validation import check_positive


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
    return draw_series(
        "errors",
        errors,
        check_positive,
        "numbers of examples to errors",
        "training examples",
        ylabel,
        ax,
    )

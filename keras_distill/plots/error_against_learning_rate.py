from keras_distill.plots.series import draw_series
from keras_distill.validation import check_positive


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
    return draw_series(
        "errors",
        errors,
        check_positive,
        "learning rates to errors",
        "learning rate",
        ylabel,
        ax,
    )

from keras_distill.plots.series import check_positive
from keras_distill.plots.series import draw_series


def error_against_learning_rate(errors, ylabel="test errors", ax=None):
    """Draws how the error depends on the learning rate.

    The line is the median over the seeds, the band goes from the smallest to
    the largest. The gradients of soft targets vary less between training cases
    than those of labels, which allows a much higher learning rate (Hinton,
    Vinyals and Dean, 2015, section 1).

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
        errors: Dict from a learning rate to an error, or to a list of them, one
            for each seed; or a dict from names to such dicts.
        ylabel: What the errors are. Defaults to `"test errors"`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a learning rate is not positive,
            an error is no finite number, or there is none.
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

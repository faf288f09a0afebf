import itertools

import numpy as np

from keras_distill.plots import style


def accuracy_against_size(report, ax=None):
    """Plots the accuracy of models against their number of parameters.

    The error bars are the 95 % confidence intervals of the accuracy.

    Example:

    ```python
    report = keras_distill.compare(
        {"teacher": teacher, "distilled": student}, (x_test, y_test)
    )
    figure = keras_distill.plots.accuracy_against_size(report)
    ```

    Args:
        report: `keras_distill.Comparison`, the result of `compare`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If no model has a known number of parameters.
        ImportError: If matplotlib is not installed.
    """
    if not hasattr(report, "models"):
        raise ValueError(
            "Expected `report` to be the result of `compare`. "
            f"Received: report={report!r}"
        )
    known = {
        name: model for name, model in report.models.items() if model.parameters
    }
    if not known:
        raise ValueError(
            "Expected `report` to compare at least one Keras model, because "
            "only Keras models have parameters. Received: "
            f"{list(report.models)}"
        )
    ax = style.get_axes(ax)
    colors = itertools.cycle(style.COLORS)
    for name, model in known.items():
        position = (model.parameters, 100 * model.accuracy)
        ends = 100 * np.reshape(model.accuracy_interval, (2, 1))
        ax.errorbar(
            *position,
            yerr=abs(ends - position[1]),
            fmt="o",
            markersize=8,
            capsize=4,
            color=next(colors),
        )
        ax.annotate(
            name,
            position,
            xytext=(9, 7),
            textcoords="offset points",
            color=style.INK,
        )
    ax.set_xscale("log")
    # Leave room for the names.
    ax.margins(x=0.3)
    return style.finish(ax, None, "parameters", "accuracy in %")

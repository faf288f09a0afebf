import itertools

from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes


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
        ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: the axes of
            a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If no model has a known number of parameters.
        ImportError: If matplotlib is not installed.
    """
    known = {
        name: model for name, model in report.models.items() if model.parameters
    }
    if not known:
        raise ValueError(
            "Expected `report` to compare at least one Keras model, because "
            "only Keras models have parameters. Received: "
            f"{list(report.models)}"
        )
    ax = get_axes(ax)
    for (name, model), color in zip(
        known.items(), itertools.cycle(COLORS), strict=False
    ):
        lower, upper = model.accuracy_interval
        accuracy = 100 * model.accuracy
        ax.errorbar(
            model.parameters,
            accuracy,
            yerr=[[accuracy - 100 * lower], [100 * upper - accuracy]],
            fmt="o",
            markersize=8,
            capsize=4,
            color=color,
        )
        ax.annotate(
            name,
            (model.parameters, accuracy),
            xytext=(9, 7),
            textcoords="offset points",
            color=INK,
        )
    ax.set_xscale("log")
    # Leave room for the names.
    ax.margins(x=0.3)
    return finish(ax, None, "parameters", "accuracy in %")

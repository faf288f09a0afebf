import numpy as np
from keras import ops

from keras_distill.metrics import ExpectedCalibrationError
from keras_distill.plots import style


def reliability_diagram(logits, labels, num_bins=15, ax=None):
    """Plots the accuracy of a model against its confidence.

    The examples are sorted into bins by their confidence, which is the
    probability of the most likely class. Each bar shows the accuracy in one bin
    (Guo et al., 2017, "On Calibration of Modern Neural Networks", figure 1).
    A bar below the diagonal means overconfidence, and a bar above it means
    underconfidence. The title shows the expected calibration error.

    Example:

    ```python
    logits = keras_distill.predict_logits(student, x_test)
    figure = keras_distill.plots.reliability_diagram(logits, y_test)
    ```

    Args:
        logits: Array of shape `(examples, classes)`.
        labels: Class ids of the examples.
        num_bins: Integer. Number of bins. Defaults to `15`.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes of the arguments do not match.
        ImportError: If matplotlib is not installed.
    """
    logits = style.check_logits(logits)
    labels = style.check_labels(labels, logits)
    metric = ExpectedCalibrationError(num_bins)
    metric.update_state(labels, logits)
    sums = ops.convert_to_numpy(metric.sums)
    filled = sums[0] > 0
    counts, confidences, correct = sums[:, filled]
    centers = ((np.arange(num_bins) + 0.5) / num_bins)[filled]
    ax = style.get_axes(ax, size=(4.8, 4.8))
    ax.plot([0, 1], [0, 1], color=style.INK, linestyle=":", label="calibrated")
    ax.bar(
        centers,
        correct / counts,
        width=0.92 / num_bins,
        color=style.COLORS[0],
        label="accuracy",
    )
    ax.scatter(
        centers,
        confidences / counts,
        marker="_",
        s=90,
        color=style.COLORS[4],
        label="confidence",
        zorder=3,
    )
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    ax.legend(frameon=False, labelcolor=style.INK, loc="upper left")
    title = f"Calibration error {float(metric.result()):.3f}"
    return style.finish(ax, title, "confidence", "accuracy")

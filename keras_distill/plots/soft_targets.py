import numpy as np
from keras import ops

from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import check_labels
from keras_distill.plots.style import check_logits
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes
from keras_distill.plots.style import get_class_names
from keras_distill.temperature import soften
from keras_distill.validation import check_temperatures

# More of them would run into each other.
_MOST_NUMBERED_BARS = 12


def soft_targets(
    logits,
    labels=None,
    temperatures=(1.0, 4.0, 20.0),
    images=None,
    class_names=None,
    ax=None,
):
    """Draws what a teacher says about some examples at several temperatures.

    One row for each example and one column for each temperature: the
    probabilities `softmax(logits / T)` of all classes. At T = 1 there is one
    bar; at higher ones it shows that this 2 looks like a 3 (Hinton, Vinyals
    and Dean, 2015, section 1).

    Example:

    ```python
    logits = keras_distill.predict_logits(teacher, x[:3])
    figure = keras_distill.plots.soft_targets(
        logits, labels=y[:3], images=x[:3].reshape(-1, 28, 28)
    )
    figure.savefig("soft_targets.png")
    ```

    Args:
        logits: Array of shape `(examples, classes)`: the teacher's, for a
            handful of examples.
        labels: Class ids, of which the bars are highlighted. Defaults to
            `None`: none is.
        temperatures: Tuple of positive numbers. Defaults to
            `(1.0, 4.0, 20.0)`.
        images: Array of shape `(examples, height, width)` or
            `(examples, height, width, channels)` to show beside the bars.
            Defaults to `None`.
        class_names: A name for each class. Defaults to `None`: numbers.
        ax: `matplotlib.axes.Axes` whose place is divided among the rows and
            columns. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes do not match.
        ImportError: If matplotlib is not installed.
    """
    logits = check_logits(logits)
    examples, classes = logits.shape
    names = get_class_names(class_names, classes)
    labels = None if labels is None else check_labels(labels, logits)
    if images is not None and len(images) != examples:
        raise ValueError(
            f"Expected `images` to be {examples}, one for each of the logits. "
            f"Received: {len(images)}"
        )
    temperatures = check_temperatures(temperatures)
    probabilities = [
        ops.convert_to_numpy(ops.softmax(soften(logits, temperature)))
        for temperature in temperatures
    ]
    columns = len(temperatures)
    ax = get_axes(ax, size=(1.5 + 2.9 * columns, 0.7 + 1.5 * examples))
    ax.set_axis_off()
    place = _divide(examples, columns, has_images=images is not None)
    for row in range(examples):
        if images is not None:
            _draw_image(ax.inset_axes(place(row, None)), images[row])
        for column, temperature in enumerate(temperatures):
            cell = ax.inset_axes(place(row, column))
            label = None if labels is None else labels[row]
            _draw_bars(cell, probabilities[column][row], label)
            # Of one temperature all rows have the same scale.
            cell.set_ylim(0, 1.15 * probabilities[column].max())
            title = f"T = {temperature:g}" if row == 0 else None
            finish(cell, title)
            is_last = row == examples - 1
            cell.set_xticks(range(classes), names if is_last else [])
            if is_last and max(map(len, names)) > 2:
                cell.tick_params(axis="x", rotation=90)
    if labels is not None:
        _add_legend(ax)
    return ax.figure


def _divide(rows, columns, has_images):
    """Returns a function of row and column to `[x, y, width, height]`."""
    image = 0.9 / (1 + 2.2 * columns) if has_images else 0.0
    width = (1.0 - image) / columns

    def place(row, column):
        y = 1 - (row + 1) / rows
        height = 0.8 / rows
        if column is None:
            return [0.0, y, 0.8 * image, height]
        return [
            image + column * width + 0.12 * width,
            y,
            0.86 * width,
            height,
        ]

    return place


def _draw_image(ax, image):
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    # Ink on paper, whatever the numbers mean.
    ax.imshow(image, cmap="gray_r" if image.ndim == 2 else None)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _draw_bars(ax, probabilities, label):
    classes = np.arange(len(probabilities))
    colors = np.where(classes == label, COLORS[0], COLORS[1])
    bars = ax.bar(classes, probabilities, color=colors, width=0.8)
    ax.tick_params(labelsize=9, length=0)
    if len(classes) > _MOST_NUMBERED_BARS:
        ax.locator_params(axis="y", nbins=3)
        return
    ax.set_yticks([])
    ax.bar_label(
        bars,
        [f"{p:.0%}" if p >= 0.005 else "" for p in probabilities],
        fontsize=8,
        color=INK,
        padding=1,
    )


def _add_legend(ax):
    from matplotlib.patches import Patch

    ax.legend(
        handles=[
            Patch(color=COLORS[0], label="label"),
            Patch(color=COLORS[1], label="other classes"),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.06),
        ncols=2,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=1,
        handleheight=1,
    )

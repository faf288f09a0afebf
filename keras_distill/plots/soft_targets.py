import numpy as np
from keras import ops

from keras_distill.plots import style
from keras_distill.targets import soften
from keras_distill.validation import check_temperatures

# The labels of the first two colors.
_COLORED = ("label", "other classes")
# The numbers above more bars would overlap.
_MAX_NUMBERED_BARS = 12


def soft_targets(
    logits,
    labels=None,
    temperatures=(1.0, 4.0, 20.0),
    images=None,
    class_names=None,
    ax=None,
):
    """Plots the soft targets of some examples at several temperatures.

    There is one row for each example and one column for each temperature. The
    bars are the probabilities `softmax(logits / T)` of all classes. At T = 1,
    you often see only one bar, and at higher T, for example, that a 2 looks
    like a 3 (Hinton, Vinyals and Dean, 2015, section 1).

    Example:

    ```python
    logits = keras_distill.predict_logits(teacher, x[:3])
    figure = keras_distill.plots.soft_targets(
        logits, labels=y[:3], images=x[:3].reshape(-1, 28, 28)
    )
    figure.savefig("soft_targets.png")
    ```

    Args:
        logits: Array of shape `(examples, classes)`: the teacher's logits for
            a few examples.
        labels: Class ids of the examples, to highlight their bars. Defaults to
            `None`: no highlights.
        temperatures: Tuple of positive numbers. Defaults to `(1.0, 4.0, 20.0)`.
        images: Array of shape `(examples, height, width)` or
            `(examples, height, width, channels)` to show beside the bars.
            Defaults to `None`: no images.
        class_names: List with a name for each class. Defaults to `None`: the
            class ids.
        ax: `matplotlib.axes.Axes` to draw on. The rows and columns share its
            area. Defaults to `None`: the axes of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes do not match, or a temperature is not positive.
        ImportError: If matplotlib is not installed.
    """
    logits = style.check_logits(logits)
    examples, classes = logits.shape
    names = style.get_class_names(class_names, classes)
    labels = None if labels is None else style.check_labels(labels, logits)
    if images is not None and np.shape(images)[:1] != (examples,):
        raise ValueError(
            f"Expected `images` to be {examples} images, one for each row of "
            f"`logits`. Received: shape {np.shape(images)}"
        )
    temperatures = check_temperatures(temperatures)
    probabilities = [
        ops.convert_to_numpy(ops.softmax(soften(logits, temperature)))
        for temperature in temperatures
    ]
    columns = len(temperatures)
    ax = style.get_axes(ax, size=(1.5 + 2.9 * columns, 0.7 + 1.5 * examples))
    ax.set_axis_off()
    left = 0.0 if images is None else 0.9 / (1 + 2.2 * columns)
    width, height = (1 - left) / columns, 1 / examples
    for row in range(examples):
        is_last = row == examples - 1
        bottom = 1 - (row + 1) * height
        if images is not None:
            box = [0.0, bottom, 0.8 * left, 0.8 * height]
            _draw_image(ax.inset_axes(box), images[row])
        for column, temperature in enumerate(temperatures):
            x = left + (column + 0.12) * width
            cell = ax.inset_axes([x, bottom, 0.86 * width, 0.8 * height])
            label = None if labels is None else labels[row]
            _draw_bars(cell, probabilities[column][row], label)
            # All rows of one temperature have the same scale.
            cell.set_ylim(0, 1.15 * probabilities[column].max())
            style.finish(cell, None if row else f"T = {temperature:g}")
            cell.set_xticks(range(classes), names if is_last else [])
            if is_last and max(map(len, names)) > 2:
                cell.tick_params(axis="x", rotation=90)
    if labels is not None:
        _add_legend(ax)
    return ax.figure


def _draw_image(ax, image):
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    # Large values are dark, like ink on paper.
    ax.imshow(image, cmap="gray_r" if image.ndim == 2 else None)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _draw_bars(ax, probabilities, label):
    classes = np.arange(len(probabilities))
    colors = np.where(classes == label, style.COLORS[0], style.COLORS[1])
    bars = ax.bar(classes, probabilities, color=colors, width=0.8)
    ax.tick_params(labelsize=9, length=0)
    if len(classes) > _MAX_NUMBERED_BARS:
        ax.locator_params(axis="y", nbins=3)
        return
    ax.set_yticks([])
    ax.bar_label(
        bars,
        [f"{p:.0%}" if p >= 0.005 else "" for p in probabilities],
        fontsize=8,
        color=style.INK,
        padding=1,
    )


def _add_legend(ax):
    for color, name in zip(style.COLORS, _COLORED, strict=False):
        ax.bar(0, 0, color=color, label=name)
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.06),
        ncols=2,
        frameon=False,
        labelcolor=style.INK,
        fontsize=9,
        handlelength=1,
        handleheight=1,
    )

import numpy as np
from keras import ops

from keras_distill.plots import style
from keras_distill.targets import soften
from keras_distill.validation import check_temperature


def class_similarity(
    logits, labels=None, temperature=4.0, class_names=None, ax=None
):
    """Plots which classes are similar according to a teacher.

    There is one row for each class. The row shows the mean probability of every
    other class in the teacher's soft targets for the examples of this class.
    Through these probabilities a student also learns about classes that are
    missing from its training data.

    Example:

    ```python
    logits = keras_distill.predict_logits(teacher, x)
    figure = keras_distill.plots.class_similarity(logits, y, temperature=4.0)
    ```

    Args:
        logits: Array of shape `(examples, classes)`: the teacher's logits.
        labels: Class ids of the examples. Defaults to `None`: the most likely
            class of each example according to the teacher.
        temperature: Float from 1e-3 to 1e4, the T of `softmax(logits / T)`.
            Defaults to `4.0`.
        class_names: List with a name for each class. Defaults to `None`: the
            class ids.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes of the arguments do not match.
        ImportError: If matplotlib is not installed.
    """
    logits = style.check_logits(logits)
    names = style.get_class_names(class_names, logits.shape[-1])
    if labels is None:
        labels = logits.argmax(axis=-1)
    labels = style.check_labels(labels, logits)
    check_temperature("temperature", temperature)
    probabilities = ops.convert_to_numpy(
        ops.softmax(soften(logits, temperature))
    )
    means = np.full((len(names), len(names)), np.nan)
    for label in np.unique(labels):
        means[int(label)] = probabilities[labels == label].mean(axis=0)
    # The large values on the diagonal would hide all other values.
    np.fill_diagonal(means, np.nan)
    ax = style.get_axes(ax, size=(5.6, 4.8))
    ax.set_facecolor("#f2f3f4")
    image = ax.imshow(np.ma.masked_invalid(means), cmap="Blues", vmin=0)
    ticks = range(len(names))
    has_long_names = max(map(len, names)) > 2
    ax.set_xticks(ticks, names, rotation=90 if has_long_names else 0)
    ax.set_yticks(ticks, names)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(f"mean probability at T = {temperature:g}", color=style.INK)
    bar.outline.set_edgecolor(style.FAINT)
    return style.finish(
        ax,
        "Class similarity",
        "class in the teacher's soft targets",
        "class of the example",
    )

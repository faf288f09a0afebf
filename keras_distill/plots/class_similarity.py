import numpy as np
from keras import ops

from keras_distill.plots.style import FAINT
from keras_distill.plots.style import INK
from keras_distill.plots.style import check_labels
from keras_distill.plots.style import check_logits
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes
from keras_distill.plots.style import get_class_names
from keras_distill.plots.style import get_colormap
from keras_distill.temperature import check_temperature
from keras_distill.temperature import soften


def mean_soft_targets(logits, labels, temperature):
    """Returns the mean soft target of the examples of each class.

    Args:
        logits: Array of shape `(examples, classes)`.
        labels: Class ids.
        temperature: Positive float.

    Returns:
        Array of shape `(classes, classes)`; a row is NaN where a class has no
        example.
    """
    probabilities = ops.convert_to_numpy(
        ops.softmax(soften(logits, temperature))
    )
    classes = logits.shape[-1]
    means = np.full((classes, classes), np.nan)
    for label in range(classes):
        of_class = probabilities[labels == label]
        if len(of_class):
            means[label] = of_class.mean(axis=0)
    return means


def class_similarity(
    logits, labels=None, temperature=4.0, class_names=None, ax=None
):
    """Draws which classes look alike to a teacher.

    A row for each class: the mean probability that the teacher's soft targets
    give to the other classes on its examples. What a student can learn of a
    class that it never sees is there.

    Example:

    ```python
    logits = keras_distill.predict_logits(teacher, x)
    figure = keras_distill.plots.class_similarity(logits, y, temperature=4.0)
    ```

    Args:
        logits: Array of shape `(examples, classes)`: the teacher's.
        labels: Class ids of the examples. Defaults to `None`: the teacher's
            most likely classes.
        temperature: Positive float T of `softmax(logits / T)`. Defaults to
            `4.0`.
        class_names: A name for each class. Defaults to `None`: numbers.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes do not match.
        ImportError: If matplotlib is not installed.
    """
    logits = check_logits(logits)
    names = get_class_names(class_names, logits.shape[-1])
    if labels is None:
        labels = logits.argmax(axis=-1)
    means = mean_soft_targets(
        logits,
        check_labels(labels, logits),
        check_temperature("temperature", temperature),
    )
    # How sure the teacher is would hide all the others.
    others = np.ma.masked_invalid(np.where(np.eye(len(means)), np.nan, means))
    ax = get_axes(ax, size=(5.6, 4.8))
    colors = get_colormap("Blues").with_extremes(bad="#f2f3f4")
    image = ax.imshow(others, cmap=colors, vmin=0)
    ticks = range(len(names))
    long = max(map(len, names)) > 2
    ax.set_xticks(ticks, names, rotation=90 if long else 0)
    ax.set_yticks(ticks, names)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(f"mean probability at T = {temperature:g}", color=INK)
    bar.outline.set_edgecolor(FAINT)
    return finish(
        ax,
        "What looks alike to the teacher",
        "teacher's soft target",
        "class of the example",
    )

"""What the plots look like."""

import warnings

import numpy as np

from keras_distill.validation import look_like_probabilities

INK = "#2f3437"
FAINT = "#c8ccd0"
# Told apart by people who do not see all colours, too (Okabe and Ito, 2008).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")


def get_axes(ax, size=(6.4, 4.2)):
    """Returns the axes to draw on.

    Args:
        ax: `matplotlib.axes.Axes`, or `None` for those of a new figure.
        size: Width and height of a new figure, in inches.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        raise ImportError(
            "The plots need matplotlib: `pip install 'keras-distill[plots]'`"
        ) from None
    _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def get_colormap(name):
    """Returns a `matplotlib.colors.Colormap`."""
    import matplotlib

    return matplotlib.colormaps[name]


def finish(ax, title=None, xlabel=None, ylabel=None):
    """Gives axes their title, labels and quiet frame.

    Returns:
        The `matplotlib.figure.Figure` that they are on.
    """
    if title:
        ax.set_title(title, color=INK, loc="left", fontweight="bold")
    if xlabel:
        ax.set_xlabel(xlabel, color=INK)
    if ylabel:
        ax.set_ylabel(ylabel, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=INK)
    return ax.figure


def get_class_names(class_names, num_classes):
    """Returns a text for each class.

    Raises:
        ValueError: If there are more or fewer names than classes.
    """
    if class_names is None:
        return [str(number) for number in range(num_classes)]
    if len(class_names) != num_classes:
        raise ValueError(
            f"Expected `class_names` to be {num_classes} names. Received: "
            f"{len(class_names)}"
        )
    return list(map(str, class_names))


def check_logits(logits):
    """Returns logits as an array of shape `(examples, classes)`.

    Raises:
        ValueError: If they have another rank, are class ids, or there are
            none.

    Warns:
        UserWarning: If they look like probabilities.
    """
    logits = np.asarray(logits)
    if logits.dtype.name == "bfloat16":
        logits = logits.astype("float32")
    if (
        logits.ndim != 2
        or not np.issubdtype(logits.dtype, np.floating)
        or not logits.size
    ):
        raise ValueError(
            "Expected `logits` of shape (examples, classes), such as from "
            "`keras_distill.predict_logits(model, x)`. Received: shape "
            f"{logits.shape}, dtype {logits.dtype}"
        )
    if look_like_probabilities(logits):
        warnings.warn(
            "The logits look like probabilities, and are taken for logits: "
            "`keras_distill.predict_logits(model, x)` returns logits.",
            stacklevel=3,
        )
    return logits


def check_labels(labels, logits):
    """Returns labels as an array of class ids, one for each of the logits.

    Raises:
        ValueError: If there are more or fewer, or they are no class ids.
    """
    labels = np.asarray(labels)
    if labels.shape == (*logits.shape[:1], 1):
        labels = labels[:, 0]
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"Expected `labels` to be {len(logits)} class ids. Received: "
            f"shape {labels.shape}"
        )
    classes = logits.shape[-1]
    wrong = labels[~np.isin(labels, np.arange(classes))]
    if wrong.size:
        raise ValueError(
            f"Expected `labels` to be class ids from 0 to {classes - 1}. "
            f"Received: a label of {wrong[0]}"
        )
    return labels

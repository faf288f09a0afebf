"""The style of the plots, and checks of their arguments."""

import warnings

import numpy as np

from keras_distill.validation import check_class_ids
from keras_distill.validation import may_be_probabilities

INK = "#2f3437"
FAINT = "#c8ccd0"
# Readers with color blindness can distinguish these (Okabe and Ito, 2008).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")


def get_axes(ax, size=(6.4, 4.2)):
    """Returns `ax`, or the axes of a new figure of this size in inches."""
    if ax is not None:
        if not hasattr(ax, "plot"):
            raise ValueError(
                f"Expected `ax` to be `matplotlib.axes.Axes`. Received: {ax!r}"
            )
        return ax
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        raise ImportError(
            "The plots need matplotlib: `pip install 'keras-distill[plots]'`"
        ) from None
    _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def finish(ax, title=None, xlabel=None, ylabel=None):
    """Sets the title, the labels and the frame, and returns the figure."""
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


def get_class_names(class_names, num_classes: int) -> list[str]:
    """Returns a name for each class: by default the class id."""
    if class_names is None:
        return [str(number) for number in range(num_classes)]
    if np.shape(class_names) != (num_classes,):
        raise ValueError(
            f"Expected `class_names` to be {num_classes} names. Received: "
            f"{class_names!r}"
        )
    return list(map(str, class_names))


def check_logits(logits) -> np.ndarray:
    """Returns logits as an array of shape `(examples, classes)`."""
    logits = np.asarray(logits)
    if logits.dtype.name == "bfloat16":
        logits = logits.astype("float32")
    if (
        logits.ndim != 2
        or not np.issubdtype(logits.dtype, np.floating)
        or not logits.size
    ):
        raise ValueError(
            "Expected `logits` to be floats of shape (examples, classes), for "
            "example from `keras_distill.predict_logits(model, x)`. Received: "
            f"shape {logits.shape}, dtype {logits.dtype}"
        )
    if not np.isfinite(logits).all():
        raise ValueError(
            "Expected `logits` to be finite. Received: "
            f"{np.sum(~np.isfinite(logits))} numbers that are not"
        )
    if may_be_probabilities(logits):
        warnings.warn(
            "`logits` look like probabilities, but are used as logits. To get "
            "logits, call `keras_distill.predict_logits(model, x)`.",
            stacklevel=3,
        )
    return logits


def check_labels(labels, logits: np.ndarray) -> np.ndarray:
    """Returns labels as an array with one class id for each example."""
    labels = np.asarray(labels)
    if labels.shape == (*logits.shape[:1], 1):
        labels = labels[:, 0]
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"Expected `labels` to be {len(logits)} class ids. Received: "
            f"shape {labels.shape}"
        )
    check_class_ids(labels, logits.shape[-1])
    return labels

import itertools

import keras

from keras_distill.losses import BY_NAME
from keras_distill.plots import style
from keras_distill.validation import check_integer

_NOT_LOSSES = ("temperature", "alpha", "learning_rate")


def learning_curves(history, quantities=None, validation_freq=None, ax=None):
    """Plots the losses of one or several training runs.

    There is one line for each quantity: `loss`, its parts `soft_loss` and
    `hard_loss`, and each distillation loss if there are several. The lines of
    the validation data are dashed.

    Example:

    ```python
    history = distiller.fit(x, y, epochs=2)
    figure = keras_distill.plots.learning_curves(history)
    ```

    Args:
        history: A `keras.callbacks.History` or its dict `history`. For several
            runs, a dict from names to histories.
        quantities: List of names in the logs, without `"val_"`. Defaults to
            `None`: all names that end in `loss`, and the distillation losses
            under their default names.
        validation_freq: Integer or list of epochs, as in `fit`. Defaults to
            `None`: every epoch, or every n-th epoch if only one n matches the
            number of values.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is nothing to draw, or if `validation_freq` does
            not match the number of values, or is `None` and several match.
        ImportError: If matplotlib is not installed.
    """
    runs = _list_runs(history)
    known = dict.fromkeys(name for logs, _ in runs.values() for name in logs)
    if quantities is None:
        quantities = sorted(filter(_is_loss, known), key=_rank)
    if (
        not isinstance(quantities, (list, tuple))
        or not quantities
        or not all(
            isinstance(name, str) and name in known for name in quantities
        )
    ):
        raise ValueError(
            f"Expected `quantities` to be a list of some of {list(known)}. "
            f"Received: {quantities!r}"
        )
    ax = style.get_axes(ax)
    colors = itertools.cycle(style.COLORS)
    for title, (logs, epochs) in runs.items():
        for name in quantities:
            color = next(colors)
            for key, line in ((name, "-"), (f"val_{name}", "--")):
                if key not in logs:
                    continue
                x, y = epochs, logs[key]
                if key != name:
                    x = _find_epochs(epochs, len(y), validation_freq)
                marker = "." if len(y) < 20 else ""
                label = f"{title} {key}".strip()
                ax.plot(x, y, line + marker, color=color, label=label)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False, labelcolor=style.INK, fontsize=9)
    ylabel = "loss" if all(map(_is_loss, quantities)) else None
    return style.finish(ax, "Learning curves", "epoch", ylabel)


def _list_runs(history) -> dict:
    """Maps the name of each run to its logs and its epochs, from 1."""
    runs = getattr(history, "history", history)
    kinds = (dict, list, tuple, keras.callbacks.History)
    if (
        not isinstance(runs, dict)
        or not runs
        or not all(isinstance(run, kinds) for run in runs.values())
    ):
        raise ValueError(
            "Expected `history` to be a `keras.callbacks.History`, its dict "
            "`history`, or a dict from names to histories. Received: "
            f"{history!r}"
        )
    if all(isinstance(values, (list, tuple)) for values in runs.values()):
        return {"": _unpack(history)}
    return {name: _unpack(run) for name, run in runs.items()}


def _unpack(history) -> tuple:
    logs = getattr(history, "history", history)
    count = max(map(len, logs.values()), default=0)
    epochs = getattr(history, "epoch", range(count))
    return logs, [epoch + 1 for epoch in epochs]


def _find_epochs(epochs, count, validation_freq):
    """Returns the epochs of `count` validation values."""
    candidates = [validation_freq]
    if validation_freq is None:
        if count == len(epochs):
            return epochs
        candidates = list(range(2, max(epochs) + 1))
    choices = [_choose_epochs(epochs, candidate) for candidate in candidates]
    matches = [chosen for chosen in choices if len(chosen) == count]
    if len(matches) != 1:
        raise ValueError(
            "Expected `validation_freq` to be the value that you passed to "
            f"`fit`: there are {count} values of the validation data in "
            f"{len(epochs)} epochs. Received: validation_freq={validation_freq}"
        )
    return matches[0]


def _choose_epochs(epochs, validation_freq) -> list:
    """Returns the epochs after which Keras validates."""
    if isinstance(validation_freq, (list, tuple)):
        return [epoch for epoch in epochs if epoch in validation_freq]
    interval = check_integer("validation_freq", validation_freq, low=1)
    return [epoch for epoch in epochs if epoch % interval == 0]


def _rank(name: str) -> int:
    """Returns a sort key that puts `loss` and its two parts first."""
    first = ("loss", "soft_loss", "hard_loss")
    return first.index(name) if name in first else len(first)


def _is_loss(name: str) -> bool:
    if name.startswith("val_") or name.endswith(_NOT_LOSSES):
        return False
    return name.endswith("loss") or any(part in name for part in BY_NAME)

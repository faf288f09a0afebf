from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes

_LOSSES = (
    "soft_target_crossentropy",
    "soft_target_kl_divergence",
    "logit_matching",
)
_NOT_LOSSES = ("temperature", "alpha", "learning_rate")


def learning_curves(history, quantities=None, ax=None):
    """Draws the losses of a training, or of several.

    A line for each quantity: `loss` and its parts, `soft_loss` and
    `hard_loss`, and the component losses where there are several. Those of
    the validation are dashed.

    Example:

    ```python
    history = distiller.fit(x, y, epochs=2)
    figure = keras_distill.plots.learning_curves(history)
    ```

    Args:
        history: A `keras.callbacks.History` or its dict `history`; or a dict
            from names to these, for several trainings.
        quantities: Names of what is drawn, as in the logs and without
            `"val_"`. Defaults to `None`: all whose name ends in `loss`, and
            those of the distillation losses under their default names.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is nothing to draw.
        ImportError: If matplotlib is not installed.
    """
    runs = _to_runs(history)
    known = dict.fromkeys(name for run, _ in runs.values() for name in run)
    if quantities is None:
        quantities = sorted(filter(_is_loss, known), key=_rank)
    missing = [name for name in quantities if name not in known]
    if missing or not quantities:
        raise ValueError(
            f"Expected `quantities` to be among {list(known)}. "
            f"Received: {missing or list(quantities)}"
        )
    ax = get_axes(ax)
    color = iter(COLORS * 10)
    for title, (run, epochs) in runs.items():
        for name in quantities:
            shade = next(color)
            for key, style in ((name, "-"), (f"val_{name}", "--")):
                if key in run:
                    ax.plot(
                        _find_epochs(epochs, len(run[key])),
                        run[key],
                        linestyle=style,
                        marker="." if len(run[key]) < 20 else None,
                        color=shade,
                        label=" ".join(filter(None, [title, key])),
                    )
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False, labelcolor=INK, fontsize=9)
    ylabel = "loss" if all(map(_is_loss, quantities)) else None
    return finish(ax, "Learning curves", "epoch", ylabel)


def _to_runs(history):
    """Returns a dict from names to the logs of each training and its epochs."""
    logs = getattr(history, "history", history)
    if not isinstance(logs, dict) or not logs:
        raise ValueError(
            "Expected `history` to be a `keras.callbacks.History`, its dict, "
            f"or a dict of these. Received: {history!r}"
        )
    if all(isinstance(each, (list, tuple)) for each in logs.values()):
        return {"": _unpack(history)}
    return {name: _unpack(each) for name, each in logs.items()}


def _unpack(history):
    """Returns the logs, and the numbers of the epochs from 1."""
    logs = getattr(history, "history", history)
    length = max(map(len, logs.values()))
    epochs = getattr(history, "epoch", range(length))
    return logs, [epoch + 1 for epoch in epochs]


def _find_epochs(epochs, count):
    """Returns those of the epochs that so many values are from."""
    # With `validation_freq=n` they are from every nth.
    every = max(1, len(epochs) // max(1, count))
    return epochs[every - 1 :: every][:count]


def _rank(name):
    """Sorts the whole and its two parts to the front."""
    first = ("loss", "soft_loss", "hard_loss")
    return first.index(name) if name in first else len(first)


def _is_loss(name):
    if name.startswith("val_") or name.endswith(_NOT_LOSSES):
        return False
    return name.endswith("loss") or any(part in name for part in _LOSSES)

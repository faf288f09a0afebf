from keras_distill.plots.style import COLORS
from keras_distill.plots.style import INK
from keras_distill.plots.style import finish
from keras_distill.plots.style import get_axes
from keras_distill.validation import check_integer

_LOSSES = (
    "soft_target_crossentropy",
    "soft_target_kl_divergence",
    "logit_matching",
)
_NOT_LOSSES = ("temperature", "alpha", "learning_rate")


def learning_curves(history, quantities=None, validation_freq=None, ax=None):
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
        validation_freq: As in `fit`, an integer or a list of epochs: which
            epochs the validation is of. Defaults to `None`: of all, or of
            every n-th where a single n gives as many as there are.
        ax: `matplotlib.axes.Axes`. Defaults to `None`: those of a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is nothing to draw, or `validation_freq` is not
            that of the training, or needed.
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
                        _find_epochs(epochs, len(run[key]), validation_freq)
                        if key.startswith("val_")
                        else epochs,
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


def _find_epochs(epochs, count, validation_freq):
    """Returns those of the epochs that so many values are from."""
    if validation_freq is not None:
        known = [validation_freq]
    elif count == len(epochs):
        known = [1]
    else:
        known = list(range(2, max(epochs) + 1))
    candidates = [
        chosen
        for freq in known
        if len(chosen := _choose_epochs(epochs, freq)) == count
    ]
    if len(candidates) != 1:
        raise ValueError(
            f"There are {count} values of the validation in {len(epochs)} "
            "epochs: expected `validation_freq` to be that of the training. "
            f"Received: validation_freq={validation_freq}"
        )
    return candidates[0]


def _choose_epochs(epochs, validation_freq):
    """Returns the epochs with a validation, as Keras has them."""
    if isinstance(validation_freq, (list, tuple)):
        return [each for each in epochs if each in validation_freq]
    every = check_integer("validation_freq", validation_freq, low=1)
    return [each for each in epochs if each % every == 0]


def _rank(name):
    """Sorts the whole and its two parts to the front."""
    first = ("loss", "soft_loss", "hard_loss")
    return first.index(name) if name in first else len(first)


def _is_loss(name):
    if name.startswith("val_") or name.endswith(_NOT_LOSSES):
        return False
    return name.endswith("loss") or any(part in name for part in _LOSSES)

"""One pass of a model: its outputs, the logits behind them, and features.

The logits of a model that ends in a softmax cannot be computed from its
probabilities: a probability underflows where a logit does not. But they exist
during the pass, as the inputs of the softmax. `forward` records every softmax
while the model runs. Where an output of the model is the output of a softmax,
it returns the logits, too. Nothing runs twice, and no second model is built.
"""

import contextlib
import threading
import typing

import keras

from keras_distill.backend.keras_compat import find_origin
from keras_distill.backend.keras_compat import flatten_layers
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.layers import TemperatureSoftmax
from keras_distill.layers import mask_logits


class Forward(typing.NamedTuple):
    """The result of one pass of a model.

    Args:
        outputs: The model's outputs in their structure. If the model ends in a
            `TemperatureSoftmax`, these are the probabilities at its serving
            temperature.
        logits: Tuple with the logits of each output, in flat order; `None` for
            an output that is not the output of a known softmax.
        features: Dict with the outputs of the requested layers.
        mask: Tuple with the Keras mask of each output, or `None`.
    """

    outputs: typing.Any
    logits: tuple
    features: dict
    mask: tuple


def forward(model, inputs, training=False, layers=()) -> Forward:
    """Runs a model once, and returns the last outputs of some of its layers."""
    outputs, softmaxes, features = _record(model, inputs, training, layers)
    flat = keras.tree.flatten(outputs)
    masks = tuple(map(get_keras_mask, flat))
    if not softmaxes:
        return Forward(outputs, (None,) * len(flat), features, masks)
    logits: list = [None] * len(flat)
    for position, output in enumerate(flat):
        softmax = _find(softmaxes, output)
        if softmax is not None:
            logits[position] = softmax.logits
            if softmax.serve is not None:
                flat[position] = softmax.serve()
    outputs = keras.tree.pack_sequence_as(outputs, flat)
    return Forward(outputs, tuple(logits), features, masks)


def forward_served(model, inputs):
    """Returns output, logits and mask of a model with one output, as served."""
    output, softmaxes, _ = _record(model, inputs, False, ())
    softmax = _find(softmaxes, output)
    logits = softmax and softmax.logits
    if softmax is not None and softmax.served_at != 1.0:
        logits = logits / softmax.served_at
    return output, logits, get_keras_mask(output)


def is_softmax(operation) -> bool:
    """Whether an operation or layer is a softmax and nothing else."""
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, keras.layers.Softmax)
    # `keras.ops.softmax` in a functional model has no public name.
    return type(operation).__name__ == "Softmax"


def is_softmax_function(function) -> bool:
    """Whether an activation is a softmax."""
    # Another thread may have replaced it already.
    return isinstance(function, _RecordingSoftmax) or function in _SOFTMAXES


def ends_linearly(model) -> bool:
    """Whether every output comes from a layer without an activation."""
    outputs = getattr(model, "outputs", None) or []
    return bool(outputs) and all(map(_is_linear, outputs))


def ends_in_softmax(model) -> bool:
    """Whether an output of a model is known to be that of a softmax."""
    for output in getattr(model, "outputs", None) or []:
        operation, _ = find_origin(output)
        if isinstance(operation, keras.Model):
            if ends_in_softmax(operation):
                return True
        elif is_softmax(operation) or is_softmax_function(
            getattr(operation, "activation", None)
        ):
            return True
    return False


def serves_softer(model) -> bool:
    """Whether a softmax in a model serves at another temperature than 1."""
    return any(
        isinstance(layer, TemperatureSoftmax) and layer.serving_temperature != 1
        for layer in flatten_layers(model)
    )


def _is_linear(output) -> bool:
    operation, _ = find_origin(output)
    if isinstance(operation, keras.Model):
        return ends_linearly(operation)
    return (
        getattr(operation, "kernel", None) is not None
        and getattr(operation, "activation", None) is keras.activations.linear
    )


# Recording replaces functions of a model for the time of one call. Two threads
# may call models that share a layer (the replicas of a MirroredStrategy do), so
# replacements are counted, and each thread records only its own calls.

_SOFTMAXES = (keras.activations.softmax, keras.ops.softmax)


class _Softmax(typing.NamedTuple):
    """One call of a softmax."""

    probabilities: typing.Any
    logits: typing.Any
    # Computes the probabilities that are served, if these are different.
    serve: typing.Callable | None = None
    served_at: float = 1.0


_lock = threading.Lock()
_installed: dict[tuple, tuple] = {}
_threads = threading.local()


def _record(model, inputs, training, layers):
    """Returns outputs, `_Softmax` calls and features of one call."""
    hooks = _find_softmaxes(model)
    for layer in layers:
        # A softmax is recorded, and its output is the feature as well.
        hooks.append((layer, "call", _record_feature))
    softmaxes: list[_Softmax] = []
    features: dict = {}
    if not hooks:
        return _call(model, inputs, training), softmaxes, features
    outer = getattr(_threads, "calls", None)
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            _install(*hook)
            stack.callback(_uninstall, *hook)
        _threads.calls = softmaxes, features
        try:
            outputs = _call(model, inputs, training)
        finally:
            _threads.calls = outer
    return outputs, softmaxes, features


def _call(model, inputs, training):
    if training is None:
        return model(inputs)
    return model(inputs, training=training)


def _find(softmaxes, output):
    """Returns the `_Softmax` that returned an output, or `None`."""
    for softmax in softmaxes:
        if output is softmax.probabilities:
            return softmax
    return None


def _find_softmaxes(model) -> list:
    """Lists `(object, attribute, wrapper)` for each softmax in a model."""
    found = {}
    # Without further functions: an eager step calls this for each model.
    for layer in flatten_layers(model):
        # A `keras.ops` call on symbols is an operation of a functional model,
        # but not a layer.
        for operation in (layer, *getattr(layer, "operations", ())):
            activation = getattr(operation, "activation", None)
            if (
                isinstance(operation, keras.layers.Softmax)
                or type(operation).__name__ == "Softmax"
            ):
                hook = (operation, "call", _record_layer)
            elif activation is not None and (
                activation in _SOFTMAXES
                or isinstance(activation, _RecordingSoftmax)
            ):
                hook = (operation, "activation", _RecordingSoftmax)
            else:
                continue
            # A layer may be found in several ways. It is replaced once.
            found[id(operation)] = hook
    return list(found.values())


def _install(owner, attribute, wrapper):
    with _lock:
        key = id(owner), wrapper
        count, original, own = _installed.get(key, (0, None, False))
        if count == 0:
            own = attribute in vars(owner)
            original = getattr(owner, attribute)
            setattr(owner, attribute, wrapper(owner, original))
        _installed[key] = count + 1, original, own


def _uninstall(owner, attribute, wrapper):
    with _lock:
        key = id(owner), wrapper
        count, original, own = _installed.pop(key)
        if count > 1:
            _installed[key] = count - 1, original, own
        elif own:
            setattr(owner, attribute, original)
        else:
            # `call` is a method of the class.
            delattr(owner, attribute)


class _RecordingSoftmax:
    """A softmax function that records its calls."""

    def __init__(self, layer, softmax):
        del layer
        self._softmax = softmax

    def __call__(self, x, *args, **kwargs):
        probabilities = self._softmax(x, *args, **kwargs)
        calls = getattr(_threads, "calls", None)
        if calls is not None:
            calls[0].append(_Softmax(probabilities, x))
        return probabilities


def _record_layer(layer, call):
    """Returns the `call` of a softmax layer that records its calls."""

    def recording_call(inputs, *args, **kwargs):
        probabilities = call(inputs, *args, **kwargs)
        calls = getattr(_threads, "calls", None)
        if calls is None:
            return probabilities
        mask = args[0] if args else kwargs.get("mask")
        logits = mask_logits(inputs, mask)
        serve, served_at = None, 1.0
        if isinstance(layer, TemperatureSoftmax):
            served_at = layer.serving_temperature
            if kwargs.get("training"):

                def serve():
                    return call(inputs, mask=mask, training=False)

        calls[0].append(_Softmax(probabilities, logits, serve, served_at))
        return probabilities

    return recording_call


def _record_feature(layer, call):
    """Returns the `call` of a layer that records its outputs."""

    def recording_call(*args, **kwargs):
        outputs = call(*args, **kwargs)
        calls = getattr(_threads, "calls", None)
        if calls is not None:
            calls[1][layer.name] = outputs
        return outputs

    return recording_call

"""One pass of a model: its outputs, the logits behind them, and features.

The logits of a model that ends in a softmax cannot be computed from its
probabilities: a probability underflows where a logit does not. But they exist
during the pass, as the inputs of the softmax. `forward` records every softmax
while the model runs. Where an output of the model is the output of a softmax,
it also returns the logits. Nothing runs twice, and no second model is built.
"""

import contextlib
import threading
import typing

import keras

from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import find_origin
from keras_distill.backend.keras_compat import flatten_layers
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import infer_outputs
from keras_distill.layers import TemperatureSoftmax
from keras_distill.layers import mask_logits
from keras_distill.targets import to_logits

# An unusual size of a batch.
_ROWS = 7


class Forward(typing.NamedTuple):
    """The result of one pass of a model."""

    # In the structure of the model. Those of a `TemperatureSoftmax` are at its
    # serving temperature.
    outputs: typing.Any
    # For each output: logits if it is the output of a known softmax, or `None`.
    logits: tuple
    # The outputs of the requested layers.
    features: dict
    # For each output: its Keras mask, or `None`.
    mask: tuple
    # For each output: the serving temperature, if there is a known softmax.
    serving_temperatures: tuple = ()
    # For each output: its soft targets, in a step with soft targets.
    targets: list | tuple = ()

    def find_logits(self, position, from_logits, log_zero, inspect=None):
        """Returns the logits of an output; `inspect` gets assumed ones."""
        logits = self.logits[position]
        if logits is not None:
            return logits
        outputs = keras.tree.flatten(self.outputs)[position]
        if not from_logits:
            return to_logits(outputs, log_zero)
        if inspect:
            inspect(outputs)
        return outputs


def forward(model, inputs, training=False, layers=()) -> Forward:
    """Runs a model once, and returns the last outputs of some of its layers."""
    arguments: dict = {}
    hooks: list[tuple] = []
    if isinstance(model, keras.layers.Layer):
        arguments = {} if training is None else {"training": training}
        hooks = _find_softmaxes(model)
        # A softmax is recorded, and its output is the feature as well.
        hooks += [(layer, "call", _record_feature) for layer in layers]
    softmaxes: list[_Softmax] = []
    features: dict = {}
    if hooks:
        with _recording(hooks, (softmaxes, features)):
            outputs = model(inputs, **arguments)
    else:
        outputs = model(inputs, **arguments)
    flat = keras.tree.flatten(outputs)
    masks = tuple(map(get_keras_mask, flat))
    logits: list = [None] * len(flat)
    temperatures = [1.0] * len(flat)
    if not softmaxes:
        return Forward(outputs, tuple(logits), features, masks)
    for position, output in enumerate(flat):
        for softmax in softmaxes:
            if output is softmax.probabilities:
                logits[position] = softmax.logits
                temperatures[position] = softmax.serving_temperature
                if softmax.serve is not None:
                    flat[position] = softmax.serve()
                break
    outputs = keras.tree.pack_sequence_as(outputs, flat)
    return Forward(outputs, tuple(logits), features, masks, tuple(temperatures))


def forward_teacher(model, inputs) -> Forward:
    """Runs a model, or a function, that returns a row for each input."""
    result = forward(model, inputs)
    first = first_tensor(inputs)
    shape = first.shape
    if isinstance(first, keras.KerasTensor) or not shape:
        return result
    outputs = result.outputs
    if shape[0] is None:
        # In a graph, the size of a batch is unknown. Trace a known size.
        if not are_dense(inputs):
            return result
        shape, outputs = _infer_rows(model, inputs, first)
    for output in keras.tree.flatten(outputs):
        if not hasattr(output, "shape") or output.shape == ():
            raise ValueError(
                "Expected a teacher, or a member of an ensemble, to return "
                f"logits of shape (batch, ..., classes). Received: {output!r}"
            )
        if output.shape and output.shape[0] not in (None, shape[0]):
            raise ValueError(
                "Expected a teacher, or a member of an ensemble, to return a "
                "row for each row of its inputs. If the dataset contains "
                "single examples, pass `batch_size`, or batch it. Received: "
                f"inputs of shape {tuple(shape)}, and outputs of shape "
                f"{tuple(output.shape)}"
            )
    return result


def _infer_rows(model, inputs, first):
    """Returns the shape of inputs of a known size, and the outputs for them."""
    size = getattr(model, "inputs", [first])[0].shape[0] or _ROWS
    known = keras.tree.map_structure(
        lambda x: (
            None
            if x is None
            else keras.KerasTensor((size, *x.shape[1:]), x.dtype.name)
        ),
        inputs,
    )
    outputs = infer_outputs(
        lambda x, training: forward(model, x).outputs, known
    )
    return (size, *first.shape[1:]), outputs


def first_tensor(structure):
    """Returns the first tensor of a structure; optional inputs are `None`."""
    for tensor in keras.tree.flatten(structure):
        if tensor is not None:
            return tensor
    raise ValueError("Expected at least one tensor. Received: none")


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


def list_outputs(model) -> list:
    """Lists the symbolic outputs of a model, which only some models have."""
    return getattr(model, "outputs", None) or []


def ends_linearly(model) -> bool:
    """Whether every output comes from a layer without an activation."""
    return bool(list_outputs(model)) and all(
        getattr(operation, "kernel", None) is not None
        and getattr(operation, "activation", None) is keras.activations.linear
        for operation in _list_last_operations(model)
    )


def ends_in_softmax(model) -> bool:
    """Whether an output of a model is known to be that of a softmax."""
    return any(
        is_softmax(operation)
        or is_softmax_function(getattr(operation, "activation", None))
        for operation in _list_last_operations(model)
    )


def _list_last_operations(model):
    """Yields what each output comes from, also in models of models."""
    for output in list_outputs(model):
        operation, _ = find_origin(output)
        if list_outputs(operation):
            yield from _list_last_operations(operation)
        else:
            yield operation


def has_serving_temperature(model) -> bool:
    """Whether a softmax in a model serves at another temperature than 1."""
    return any(
        isinstance(layer, TemperatureSoftmax) and layer.serving_temperature != 1
        for layer in flatten_layers(model)
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
    serving_temperature: float = 1.0


_lock = threading.Lock()
_installed: dict[tuple, tuple] = {}
_threads = threading.local()


@contextlib.contextmanager
def _recording(hooks, calls):
    """Records the calls of this thread in lists of softmaxes and features."""
    outer = getattr(_threads, "calls", None)
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            _install(*hook)
            stack.callback(_uninstall, *hook)
        _threads.calls = calls
        try:
            yield
        finally:
            _threads.calls = outer


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
        serve, temperature = None, 1.0
        if isinstance(layer, TemperatureSoftmax):
            temperature = layer.serving_temperature
            if kwargs.get("training"):

                def serve():
                    return call(inputs, mask=mask, training=False)

        calls[0].append(_Softmax(probabilities, logits, serve, temperature))
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

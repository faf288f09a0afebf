"""The logits behind a model's outputs.

A model that ends in a softmax outputs probabilities. Its logits can not be
had from them exactly (a probability underflows where a logit does not), but
they pass by: they are what the last softmax is applied to. `call_model` looks
at every softmax in the model while it runs, and where an output of the model
is the output of a softmax, keeps the logits with it. `to_logits` finds them
there. Nothing is run twice, and no second model is built.
"""

import contextlib
import threading
import typing

import keras
from keras import ops

from keras_distill.backend.keras_internals import find_origin
from keras_distill.backend.keras_internals import flatten_layers
from keras_distill.backend.keras_internals import get_keras_mask
from keras_distill.backend.keras_internals import get_tensor_attr
from keras_distill.backend.keras_internals import set_keras_mask
from keras_distill.backend.keras_internals import set_tensor_attr
from keras_distill.layers import TemperatureSoftmax
from keras_distill.layers import mask_logits

_LOGITS = "_keras_distill_logits"
_SERVED_AT = "_keras_distill_served_at"


def call_model(model, inputs, **kwargs):
    """Calls a model and keeps the logits of outputs that are probabilities.

    Args:
        model: `keras.layers.Layer`, most often a `keras.Model`.
        inputs: Its inputs.
        **kwargs: More arguments of the call, such as `training`.

    Returns:
        The outputs of the model, which `to_logits` understands. Where the
        model ends in a `TemperatureSoftmax`, they are those at its serving
        temperature.
    """
    with _recording(model) as softmaxes:
        outputs = model(inputs, **kwargs)

    def find(output):
        for softmax in softmaxes:
            if output is softmax.probabilities:
                return _attach(output, softmax)
        return output

    return keras.tree.map_structure(find, outputs)


def _attach(output, softmax):
    mask = get_keras_mask(output)
    if softmax.serve is not None:
        output = softmax.serve()
        set_keras_mask(output, mask)
    mark(output, softmax.logits)
    set_tensor_attr(output, _SERVED_AT, softmax.served_at)
    return output


def mark(outputs, logits):
    """Notes that `logits` are the logits of the tensor `outputs`."""
    mask = get_keras_mask(outputs)
    if mask is not None:
        set_keras_mask(logits, mask)
    set_tensor_attr(outputs, _LOGITS, logits)


def are_marked(outputs):
    """Whether `to_logits` returns known logits for this tensor."""
    return get_tensor_attr(outputs, _LOGITS) is not None


def to_logits(outputs, from_logits=True, log_zero=None):
    """Returns the logits behind an output of a model.

    Args:
        outputs: Tensor: logits, probabilities, or an output of `call_model`.
        from_logits: Whether `outputs` are logits, as far as is not known from
            `call_model`. Where they are probabilities, their logarithm is
            taken, which differs from the logits by a constant per row.
        log_zero: The logit of a probability of exactly 0. Needed where
            `from_logits` is `False`.

    Returns:
        Tensor of logits, in the shape of `outputs`, with its Keras mask.
    """
    known = get_tensor_attr(outputs, _LOGITS)
    if known is not None:
        return known
    if from_logits:
        return outputs
    # Half precision has no digits to spare for a logarithm.
    dtype = keras.backend.result_type(outputs.dtype, "float32")
    probabilities = ops.cast(outputs, dtype)
    positive = probabilities > 0
    # The inner `where` keeps log(0) out of the gradient of the outer one.
    logits = ops.where(
        positive,
        ops.log(ops.where(positive, probabilities, 1.0)),
        log_zero,
    )
    set_keras_mask(logits, get_keras_mask(outputs))
    return logits


def to_served_logits(outputs, from_logits=True, log_zero=None):
    """Returns logits whose softmax is what a model serves.

    As `to_logits`, but of a model that ends in a `TemperatureSoftmax` they are
    divided by its serving temperature.

    Args:
        outputs: As in `to_logits`.
        from_logits: As in `to_logits`.
        log_zero: As in `to_logits`.

    Returns:
        Tensor of logits, in the shape of `outputs`, with its Keras mask.
    """
    logits = to_logits(outputs, from_logits, log_zero)
    temperature = get_tensor_attr(outputs, _SERVED_AT)
    if temperature is None or temperature == 1.0:
        return logits
    served = logits / temperature
    set_keras_mask(served, get_keras_mask(logits))
    return served


# Recording. The softmaxes of a model are replaced for the time of one call.
# Two threads may call models that share a layer (the replicas of a
# `tf.distribute.MirroredStrategy` do), so replacements are counted, and each
# thread records its own calls only.


class _Softmax(typing.NamedTuple):
    """One call of a softmax."""

    probabilities: typing.Any
    logits: typing.Any
    # Computes the probabilities as they are served, if that is different.
    serve: typing.Callable | None = None
    # The temperature that they are served at.
    served_at: float = 1.0


_lock = threading.Lock()
_installed: dict[int, tuple] = {}
_threads = threading.local()


@contextlib.contextmanager
def _recording(model):
    """Gives a list that fills with the `_Softmax` calls inside of a model."""
    calls: list[_Softmax] = []
    outer = getattr(_threads, "calls", None)
    with contextlib.ExitStack() as stack:
        for hook in _find_softmaxes(model):
            _install(*hook)
            stack.callback(_uninstall, *hook)
        _threads.calls = calls
        try:
            yield calls
        finally:
            _threads.calls = outer


def _find_softmaxes(model):
    """Lists `(object, attribute, wrapper)` for each softmax in a model."""
    found = {}
    for layer in flatten_layers(model):
        # Symbolic `keras.ops` calls are operations of a functional model, but
        # not layers.
        for operation in [layer, *getattr(layer, "operations", [])]:
            if is_softmax(operation):
                hook = (operation, "call", _record_layer)
            elif is_softmax_function(getattr(operation, "activation", None)):
                hook = (operation, "activation", _RecordingSoftmax)
            else:
                continue
            # A layer may be reached on several ways; it is replaced once.
            found[id(operation)] = hook
    return found.values()


def is_softmax(operation):
    """Whether an operation or layer is a softmax, and nothing else."""
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, keras.layers.Softmax)
    # What `keras.ops.softmax` leaves in a functional model has no public name.
    return type(operation).__name__ == "Softmax"


def ends_linearly(model):
    """Whether a model is known to end in a layer without an activation.

    Args:
        model: `keras.Model`.
    """
    layer = model
    while isinstance(layer, keras.Model):
        outputs = getattr(layer, "outputs", None) or []
        if len(outputs) != 1:
            return False
        layer, _ = find_origin(outputs[0])
    return (
        getattr(layer, "kernel", None) is not None
        and getattr(layer, "activation", None) is keras.activations.linear
    )


def serves_softer(model):
    """Whether a softmax in a model serves at another temperature than 1."""
    return any(
        isinstance(layer, TemperatureSoftmax) and layer.serving_temperature != 1
        for layer in flatten_layers(model)
    )


def is_softmax_function(function):
    """Whether an activation is a softmax."""
    # Another thread may have replaced it already.
    return isinstance(function, _RecordingSoftmax) or function in (
        keras.activations.softmax,
        keras.ops.softmax,
    )


def _install(owner, attribute, wrapper):
    with _lock:
        count, original = _installed.get(id(owner), (0, None))
        if count == 0:
            original = getattr(owner, attribute)
            setattr(owner, attribute, wrapper(owner, original))
        _installed[id(owner)] = (count + 1, original)


def _uninstall(owner, attribute, wrapper):
    with _lock:
        count, original = _installed.pop(id(owner))
        if count > 1:
            _installed[id(owner)] = (count - 1, original)
        elif wrapper is _record_layer:
            # `call` is a method of the class; the instance had none.
            delattr(owner, attribute)
        else:
            setattr(owner, attribute, original)


def _record(*call):
    calls = getattr(_threads, "calls", None)
    if calls is not None:
        calls.append(_Softmax(*call))


class _RecordingSoftmax:
    def __init__(self, layer, softmax):
        del layer
        self._softmax = softmax

    def __call__(self, x, *args, **kwargs):
        probabilities = self._softmax(x, *args, **kwargs)
        _record(probabilities, x)
        return probabilities


def _record_layer(layer, call):
    def recording_call(inputs, *args, **kwargs):
        probabilities = call(inputs, *args, **kwargs)
        mask = args[0] if args else kwargs.get("mask")
        logits = mask_logits(inputs, mask)
        if not isinstance(layer, TemperatureSoftmax):
            _record(probabilities, logits)
            return probabilities
        serve = None
        if kwargs.get("training"):

            def serve():
                return call(inputs, mask=mask, training=False)

        _record(probabilities, logits, serve, layer.serving_temperature)
        return probabilities

    return recording_call

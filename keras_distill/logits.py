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

import keras
from keras import ops
from keras.src.backend.common.tensor_attributes import get_tensor_attr
from keras.src.backend.common.tensor_attributes import set_tensor_attr

from keras_distill.layers import TemperatureSoftmax
from keras_distill.layers import mask_logits

_LOGITS = "_keras_distill_logits"
_MASK = "_keras_mask"


def call_model(model, inputs, **kwargs):
    """Calls a model and keeps the logits of outputs that are probabilities.

    Args:
        model: `keras.layers.Layer`, most often a `keras.Model`.
        inputs: Its inputs.
        **kwargs: More arguments of the call, such as `training`.

    Returns:
        The outputs of the model, which `to_logits` understands. A
        `TemperatureSoftmax` gives them at its serving temperature.
    """
    with _recording(model) as softmaxes:
        outputs = model(inputs, **kwargs)
    for output in keras.tree.flatten(outputs):
        for probabilities, logits in softmaxes:
            if output is probabilities:
                mark(output, logits)
    return outputs


def mark(outputs, logits):
    """Notes that `logits` are the logits of the tensor `outputs`."""
    mask = get_tensor_attr(outputs, _MASK)
    if mask is not None:
        set_tensor_attr(logits, _MASK, mask)
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
    set_tensor_attr(logits, _MASK, get_tensor_attr(outputs, _MASK))
    return logits


# Recording. The softmaxes of a model are replaced for the time of one call.
# Two threads may call models that share a layer (the replicas of a
# `tf.distribute.MirroredStrategy` do), so replacements are counted, and each
# thread records its own calls only.

_lock = threading.Lock()
_installed: dict[int, tuple] = {}
_threads = threading.local()


@contextlib.contextmanager
def _recording(model):
    """Gives a list that fills with the `(probabilities, logits)` pairs."""
    hooks = _find_softmaxes(model)
    pairs: list[tuple] = []
    outer = getattr(_threads, "pairs", None)
    for hook in hooks:
        _install(*hook)
    _threads.pairs = pairs
    try:
        yield pairs
    finally:
        _threads.pairs = outer
        for hook in hooks:
            _uninstall(*hook)


def _find_softmaxes(model):
    """Lists `(object, attribute, wrapper)` for each softmax in a model."""
    found = []
    for layer in model._flatten_layers():
        # Symbolic `keras.ops` calls are operations of a functional model, but
        # not layers.
        operations = getattr(layer, "operations", [])
        for operation in [layer, *operations]:
            if isinstance(operation, keras.layers.Softmax) or (
                isinstance(operation, keras.Operation)
                and not isinstance(operation, keras.layers.Layer)
                and type(operation).__name__ == "Softmax"
            ):
                found.append((operation, "call", _record_layer))
            elif getattr(operation, "activation", None) in (
                keras.activations.softmax,
                keras.ops.softmax,
            ):
                found.append((operation, "activation", _record_function))
    # A layer may be reached on several ways; it is replaced once.
    return list({id(hook[0]): hook for hook in found}.values())


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


def _record_function(layer, softmax):
    del layer

    def recording_softmax(x, *args, **kwargs):
        probabilities = softmax(x, *args, **kwargs)
        pairs = getattr(_threads, "pairs", None)
        if pairs is not None:
            pairs.append((probabilities, x))
        return probabilities

    return recording_softmax


def _record_layer(layer, call):
    def recording_call(inputs, *args, mask=None, **kwargs):
        if mask is not None:
            kwargs["mask"] = mask
        pairs = getattr(_threads, "pairs", None)
        if pairs is None:
            return call(inputs, *args, **kwargs)
        if isinstance(layer, TemperatureSoftmax):
            kwargs["training"] = False
        probabilities = call(inputs, *args, **kwargs)
        pairs.append((probabilities, mask_logits(inputs, mask)))
        return probabilities

    return recording_call

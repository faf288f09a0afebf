"""Hashes that tell whether arrays and models are those of before.

XXH3 finds what changed by accident at the speed of memory. It is no protection
from somebody who wants two arrays to look the same.
"""

import json
import types

import keras
import numpy as np
import xxhash
from keras import ops

from keras_distill.backend.keras_compat import flatten_layers


def fingerprint_arrays(arrays):
    """Returns a hash of all bytes in a structure of arrays, in hexadecimal."""
    digest = xxhash.xxh3_128()
    for path, array in keras.tree.flatten_with_path(arrays):
        digest.update(repr(path).encode())
        _update(digest, ops.convert_to_numpy(array))
    return digest.hexdigest()


def fingerprint_model(model):
    """Returns a hash of a model's architecture and weights, in hexadecimal.

    Names do not count: Keras numbers them through, so that the same model has
    other ones in another process.

    Args:
        model: `keras.Model`.
    """
    digest = xxhash.xxh3_128()
    digest.update(json.dumps(_describe(model), sort_keys=True).encode())
    digest.update(fingerprint_arrays(model.weights).encode())
    return digest.hexdigest()


def _update(digest, array):
    """Hashes an array, also one of strings or of rows of different lengths."""
    array = np.ascontiguousarray(array)
    digest.update(repr((array.shape, array.dtype)).encode())
    if array.dtype != object:
        digest.update(array.view(np.uint8).data)
        return
    for each in array.flat:
        if isinstance(each, (bytes, str)):
            digest.update(repr(each).encode())
        else:
            _update(digest, each)


def _describe(model):
    """Returns what `get_config` says of a model, without names.

    Keras names the functions of `Lambda` layers, or has their bytes, which
    differ between two that are the same: their code is described instead.
    """
    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError):
        # A subclassed model that can not be saved: its weights have to do.
        return f"{type(model).__module__}.{type(model).__qualname__}"
    names: dict[str, str] = {}
    functions = []
    for layer in flatten_layers(model):
        names.setdefault(layer.name, f"layer {len(names)}")
        if isinstance(layer, keras.layers.Lambda):
            functions.append(_describe_function(layer.function))
    return [_rename(config, names), functions]


def _describe_function(function):
    """Returns what a function does and what it is given, as JSON has it."""
    code = getattr(function, "__code__", None)
    if code is None:
        # Of something else that can be called.
        return repr(keras.saving.serialize_keras_object(function))
    closure = function.__closure__ or ()
    return [
        _describe_code(code),
        _describe_constant(function.__defaults__),
        _describe_constant(function.__kwdefaults__),
        [_describe_constant(cell.cell_contents) for cell in closure],
    ]


def _describe_code(code):
    """Returns what a code object does, wherever it was written."""
    return [
        code.co_code.hex(),
        code.co_argcount,
        code.co_kwonlyargcount,
        list(code.co_names),
        [_describe_constant(each) for each in code.co_consts],
    ]


def _describe_constant(value):
    if isinstance(value, types.CodeType):
        return _describe_code(value)
    if isinstance(value, types.FunctionType):
        # No further: it may refer to itself.
        return _describe_code(value.__code__)
    if isinstance(value, (list, tuple)):
        return [_describe_constant(each) for each in value]
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return {key: _describe_constant(each) for key, each in value.items()}
    if keras.ops.is_tensor(value) or isinstance(value, np.ndarray):
        return fingerprint_arrays(value)
    text = repr(value)
    # Another address is no other function.
    return type(value).__qualname__ if " at 0x" in text else text


def _rename(config, names):
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return "a function"
        return {
            str(key): _rename(value, names)
            for key, value in config.items()
            # They say how a model was trained and called, not what it is.
            if key not in ("compile_config", "build_config", "trainable")
        }
    if isinstance(config, (list, tuple)):
        return [_rename(value, names) for value in config]
    if isinstance(config, str):
        return names.get(config, config)
    if config is None or isinstance(config, (bool, int, float)):
        return config
    return repr(config)

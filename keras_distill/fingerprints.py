"""Hashes that detect changes of arrays and models.

XXH3 detects accidental changes, as fast as memory can be read. It does not
protect against arrays that somebody makes to have the same hash.
"""

import json
import types

import keras
import numpy as np
import xxhash
from keras import ops

from keras_distill.backend.keras_compat import flatten_layers


def fingerprint_arrays(arrays) -> str:
    """Returns a hash of all bytes in a structure of arrays, in hexadecimal."""
    digest = xxhash.xxh3_128()
    for path, array in keras.tree.flatten_with_path(arrays):
        digest.update(repr(path).encode())
        _update(digest, ops.convert_to_numpy(array))
    return digest.hexdigest()


def fingerprint_model(model) -> str:
    """Returns a hash of a model's architecture and weights, in hexadecimal.

    Names do not count: Keras numbers them, so the names of the same model
    differ between processes.
    """
    digest = xxhash.xxh3_128()
    digest.update(json.dumps(_describe(model), sort_keys=True).encode())
    digest.update(fingerprint_arrays(model.weights).encode())
    return digest.hexdigest()


def _update(digest, array) -> None:
    """Hashes an array of numbers, strings, or rows of different lengths."""
    array = np.ascontiguousarray(array)
    digest.update(repr((array.shape, array.dtype)).encode())
    if array.dtype != object:
        digest.update(array.view(np.uint8).data)
        return
    for entry in array.flat:
        if isinstance(entry, (bytes, str)):
            digest.update(repr(entry).encode())
        else:
            _update(digest, entry)


def _describe(model):
    """Returns the config of a model without names."""
    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError):
        # A subclassed model without a config: only its weights identify it.
        return f"{type(model).__module__}.{type(model).__qualname__}"
    names: dict[str, str] = {}
    functions = []
    for layer in flatten_layers(model):
        names.setdefault(layer.name, f"layer {len(names)}")
        if isinstance(layer, keras.layers.Lambda):
            # In the config, equal functions can have different bytes.
            functions.append(_describe_function(layer.function))
    return [_rename(config, names), functions]


def _describe_function(function):
    """Returns the code and the bound values of a function, for JSON."""
    code = getattr(function, "__code__", None)
    if code is None:
        # Another callable, such as an object.
        return repr(keras.saving.serialize_keras_object(function))
    closure = function.__closure__ or ()
    return [
        _describe_constant(code),
        _describe_constant(function.__defaults__),
        _describe_constant(function.__kwdefaults__),
        [_describe_constant(cell.cell_contents) for cell in closure],
    ]


def _describe_constant(value):
    if isinstance(value, types.CodeType):
        # Without its location.
        return [
            value.co_code.hex(),
            value.co_argcount,
            value.co_kwonlyargcount,
            list(value.co_names),
            _describe_constant(value.co_consts),
        ]
    if isinstance(value, types.FunctionType):
        # Without its closure, which may contain the function itself.
        return _describe_constant(value.__code__)
    if isinstance(value, (list, tuple)):
        return [_describe_constant(entry) for entry in value]
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return {key: _describe_constant(entry) for key, entry in value.items()}
    if keras.ops.is_tensor(value) or isinstance(value, np.ndarray):
        return fingerprint_arrays(value)
    text = repr(value)
    # The address differs between processes.
    return type(value).__qualname__ if " at 0x" in text else text


def _rename(config, names):
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return "a function"
        return {
            str(key): _rename(value, names)
            for key, value in config.items()
            # These keys describe how a model was trained and called.
            if key not in ("compile_config", "build_config", "trainable")
        }
    if isinstance(config, (list, tuple)):
        return [_rename(value, names) for value in config]
    if isinstance(config, str):
        return names.get(config, config)
    if config is None or isinstance(config, (bool, int, float)):
        return config
    return repr(config)

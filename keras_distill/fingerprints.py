"""Hashes that tell whether arrays and models are those of before.

XXH3 finds what changed by accident at the speed of memory. It is no protection
from somebody who wants two arrays to look the same.
"""

import json

import keras
import numpy as np
import xxhash
from keras import ops

from keras_distill.backend.keras_internals import flatten_layers


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
    """Returns what `get_config` says of a model, without names."""
    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError):
        # A subclassed model that can not be saved: its weights have to do.
        return f"{type(model).__module__}.{type(model).__qualname__}"
    names: dict[str, str] = {}
    for layer in flatten_layers(model):
        names.setdefault(layer.name, f"layer {len(names)}")
    return _rename(config, names)


def _rename(config, names):
    if isinstance(config, dict):
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

"""Hashes that detect changes of arrays and models.

XXH3 detects accidental changes, as fast as memory can be read. It does not
protect against arrays that somebody makes to have the same hash.
"""

import json
import pathlib
import tempfile

import keras
import numpy as np
import xxhash
from keras import ops

from keras_distill.backend.keras_compat import flatten_layers

# Classes of these packages change only with a new version.
_PACKAGES = ("keras", "keras_distill", "keras_hub")
# Layers that contain code of a user, or of other frameworks.
_FOREIGN = (
    keras.layers.FlaxLayer,
    keras.layers.JaxLayer,
    keras.layers.Lambda,
    keras.layers.TFSMLayer,
    keras.layers.TorchModuleWrapper,
)
_KEYS_OF_NAMES = ("name", "keras_history", "input_layers", "output_layers")
# How a model was trained, called and shared.
_KEYS_WITHOUT_EFFECT = (
    "build_config",
    "compile_config",
    "shared_object_id",
    "trainable",
)


def fingerprint_arrays(arrays) -> str:
    """Returns a hash of all bytes in a structure of arrays, in hexadecimal."""
    digest = xxhash.xxh3_128()
    for path, array in keras.tree.flatten_with_path(arrays):
        digest.update(repr(path).encode())
        _update(digest, ops.convert_to_numpy(array))
    return digest.hexdigest()


def fingerprint_model(model) -> str | None:
    """Returns a hash of a model, or `None` if a change of it may be invisible.

    It covers the configuration, the weights and all other state that Keras
    saves. The code of Python functions and the attributes of a subclass are not
    among these. Names do not count: Keras numbers them, so the names of the
    same model differ between processes.
    """
    if not all(map(_is_known, _list_operations(model))):
        return None
    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError):
        return None
    digest = xxhash.xxh3_128()
    config = _normalize(config, {})
    digest.update(json.dumps(config, sort_keys=True).encode())
    for layer in flatten_layers(model):
        digest.update(_fingerprint_state(layer).encode())
    return digest.hexdigest()


def _update(digest, array) -> None:
    """Hashes an array of numbers, strings, or rows of different lengths."""
    array = np.ascontiguousarray(array)
    digest.update(repr((array.shape, array.dtype)).encode())
    if array.dtype != object:
        digest.update(array.view(np.uint8).data)
        return
    for entry in array.flat:
        # An optional input may be `None`.
        if entry is None or isinstance(entry, (bytes, str)):
            digest.update(repr(entry).encode())
        else:
            _update(digest, entry)


def _list_operations(model) -> list:
    """Lists all layers, and the operations of functional models."""
    return [
        operation
        for layer in flatten_layers(model)
        for operation in (layer, *getattr(layer, "operations", ()))
    ]


def _is_known(operation) -> bool:
    """Whether a layer is one of Keras, and contains no code of a user."""
    if isinstance(operation, _FOREIGN) or not _is_of_keras(type(operation)):
        return False
    attributes = vars(operation)
    if isinstance(operation, keras.Model):
        # The metrics and steps of a model do not change its outputs.
        return "call" not in attributes
    return not any(
        callable(value) and not _is_of_keras(value)
        for value in keras.tree.flatten(list(attributes.values()))
    )


def _is_of_keras(thing) -> bool:
    """Whether a class, a function or an object comes from a Keras package."""
    module = getattr(thing, "__module__", None) or ""
    # In PyTorch, a layer contains dicts of parameters.
    if module == "torch.nn.modules.container":
        return True
    return module.partition(".")[0] in _PACKAGES


def _fingerprint_state(layer) -> str:
    """Returns a hash of what Keras saves of a layer, beside its config."""
    store: dict = {}
    layer.save_own_variables(store)
    assets = {}
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            assets = {
                str(path.relative_to(folder)): np.frombuffer(
                    path.read_bytes(), "uint8"
                )
                for path in pathlib.Path(folder).rglob("*")
                if path.is_file()
            }
    return fingerprint_arrays([store, assets])


def _normalize(config, names: dict):
    """Returns a config for JSON, with numbers in the place of names."""
    if isinstance(config, dict):
        return {
            str(key): _number_names(value, names)
            if key in _KEYS_OF_NAMES
            else _normalize(value, names)
            for key, value in config.items()
            if key not in _KEYS_WITHOUT_EFFECT
        }
    if isinstance(config, (list, tuple)):
        return [_normalize(value, names) for value in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    if keras.ops.is_tensor(config) or isinstance(config, np.ndarray):
        return fingerprint_arrays(config)
    return repr(config)


def _number_names(value, names: dict):
    """Replaces each name by the number of its first appearance."""
    return keras.tree.map_structure(
        lambda entry: (
            names.setdefault(entry, len(names))
            if isinstance(entry, str)
            else entry
        ),
        value,
    )

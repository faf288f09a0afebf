"""Checks of a manifest, which may come from a stranger."""

import pathlib
import typing

import keras

from keras_distill.store import shards
from keras_distill.store.records import RecordFormat
from keras_distill.top_k import TARGET_DTYPES

# More than the header of an `.npy` file of records.
_HEADER_BYTES = 2**20


def check_manifest(folder: pathlib.Path, manifest: dict) -> None:
    """Raises unless a manifest is complete and describes the files."""
    for key, is_valid in _CHECKS.items():
        if key not in manifest or not is_valid(manifest[key]):
            raise _error(folder, key, manifest.get(key))
    leaves = keras.tree.flatten(manifest["structure"])
    if leaves != list(range(len(manifest["shapes"]))):
        raise _error(folder, "structure", manifest["structure"])
    temperatures = manifest["temperatures"] or []
    # Only the mass outside of the top k is stored for several temperatures.
    is_wrong = not temperatures if manifest["top_k"] else len(temperatures) > 1
    if is_wrong:
        raise _error(folder, "temperatures", manifest["temperatures"])
    entries = manifest["shards"]
    records = manifest["examples"] * manifest["views"]
    # First the number of shards, because lists need memory.
    count = -(-records // manifest["examples_per_shard"])
    if len(entries) != count or [
        entry["examples"] for entry in entries
    ] != list(shards.count_examples(records, manifest).values()):
        raise _error(folder, "shards", entries)
    try:
        size = RecordFormat.from_config(manifest).record.itemsize
    except ValueError:
        raise _error(folder, "shapes", manifest["shapes"]) from None
    for number, entry in enumerate(entries):
        header = entry["bytes"] - size * entry["examples"]
        if not 0 < header < _HEADER_BYTES:
            raise _error(folder, "bytes", entry["bytes"])
        shards.check_file(shards.shard_path(folder, number), entry)


def _error(folder, key: str, value) -> shards.StoreError:
    received = f"{value!r:.200}"
    return shards.StoreError(
        f"Expected {folder / shards.MANIFEST} to describe a store, made by "
        f"`SoftTargetStore.create`. Received: {key}={received}"
    )


def _is_count(value) -> bool:
    """Whether a value is a positive integer."""
    return isinstance(value, int) and value is not True and value > 0


def _is_text(value) -> bool:
    return isinstance(value, str)


def _optional(is_valid: typing.Callable) -> typing.Callable:
    return lambda value: value is None or is_valid(value)


def _list_of(is_valid: typing.Callable) -> typing.Callable:
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def _is_positive(value) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _is_input(value) -> bool:
    shape = _optional(_list_of(_optional(_is_count)))
    return (
        isinstance(value, dict)
        and _is_text(value.get("dtype"))
        and shape(value.get("shape"))
    )


_CHECKS: dict[str, typing.Callable] = {
    "teacher": _optional(_is_text),
    "teacher_id": _optional(_is_text),
    "from_logits": lambda value: isinstance(value, bool),
    "structure": lambda value: value is not None,
    "shapes": _list_of(lambda shape: shape and _list_of(_is_count)(shape)),
    "dtype": lambda value: value in TARGET_DTYPES,
    "top_k": _optional(_is_count),
    "temperatures": _optional(_list_of(_is_positive)),
    "inputs": _list_of(_is_input),
    "views": _is_count,
    "seed": _optional(lambda value: isinstance(value, int)),
    "workers": _is_count,
    "examples_per_shard": _is_count,
    "examples": _is_count,
    "shards": _list_of(shards.is_entry),
}

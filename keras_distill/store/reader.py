"""Reading the records of a complete store."""

import functools
import pathlib

import keras
import numpy as np

from keras_distill.store import shards
from keras_distill.store.manifest import check_manifest
from keras_distill.store.records import RecordFormat
from keras_distill.validation import shapes_agree

# A pipeline gets several batches at once, to call Python less often.
_EXAMPLES_AT_ONCE = 4096
_BYTES_AT_ONCE = 2**24
# The number of shards that are mapped into memory.
_SHARDS_OPEN = 16


class StoreReader:
    """Reads records, and verifies each shard the first time."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.manifest = _read_manifest(path)
        self.format = RecordFormat.from_config(self.manifest)
        self._verified: set[int] = set()
        self._map = functools.lru_cache(maxsize=_SHARDS_OPEN)(self._map_shard)

    def __reduce__(self):
        # It is opened again, without mapped shards.
        return type(self), (self.path,)

    def read(self, start: int, stop: int):
        """Returns the records from `start` to before `stop`."""
        size = self.manifest["examples_per_shard"]
        parts = [
            self._map(number)[first - number * size : end - number * size]
            for number, first, end in shards.split(start, stop, size)
        ]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty(0, self.format.record), *parts])

    def find(self, view, position, count, exactly=False) -> list:
        """Returns fingerprints and flat soft targets of a view.

        There are `count` of them, or more unless `exactly` is true.
        """
        examples = self.manifest["examples"]
        if position + count > examples:
            raise shards.StoreError(
                f"Expected a dataset of at most {examples} examples, the "
                f"number in the store {self.path}. Received: more"
            )
        if not exactly:
            fitting = _BYTES_AT_ONCE // self.format.record.itemsize
            count = max(count, min(fitting, _EXAMPLES_AT_ONCE))
        first = int(view * examples)
        records = self.read(
            first + int(position), first + int(min(position + count, examples))
        )
        return [
            np.array(records["fingerprint"]),
            *keras.tree.flatten(self.format.decode(records)),
        ]

    @functools.cached_property
    def example(self):
        """Soft targets of zeros for one example, as a batch."""
        return self.format.decode(np.zeros(1, self.format.record))

    def check_inputs(self, received: list[dict]) -> None:
        """Raises a `ValueError` unless inputs are like the labelled ones."""
        expected = self.manifest["inputs"]
        if len(received) != len(expected) or not all(
            ours["dtype"] == theirs["dtype"]
            and (
                ours["shape"] is None
                or shapes_agree(ours["shape"], theirs["shape"])
            )
            for ours, theirs in zip(received, expected, strict=True)
        ):
            raise ValueError(
                "Expected inputs like those that were labelled: "
                f"{expected} without the batch. Received: {received}"
            )

    def _map_shard(self, number):
        records = shards.map_shard(
            self.path,
            number,
            self.manifest["shards"][number],
            self.format.record,
            verify=number not in self._verified,
        )
        self._verified.add(number)
        return records


def _read_manifest(folder):
    manifest = shards.read_manifest(folder)
    if not manifest:
        raise ValueError(
            "Expected the folder of a `SoftTargetStore`, made by "
            f"`SoftTargetStore.create`. Received: path={str(folder)!r}"
        )
    version = manifest.get("format_version")
    if version != shards.FORMAT_VERSION:
        raise ValueError(
            f"Expected a store of format {shards.FORMAT_VERSION}. Received: "
            f"format {version} of {folder}"
        )
    if "shards" not in manifest:
        raise ValueError(
            "Expected a complete store. To continue this one, call "
            "`SoftTargetStore.create` with the same arguments. Received: "
            f"the store {folder}, which is not complete"
        )
    check_manifest(folder, manifest)
    return manifest

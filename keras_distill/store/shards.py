"""The files of a `SoftTargetStore`, as in `docs/guides/store_format.md`.

While a store is created there are also

    soft_targets-00000.json       the manifest's entry for a complete shard
    soft_targets-00001.partial    the shard in progress

A file gets its final name when it is complete and on the disk. A shard is
complete once its `.json` exists, whatever happens to the process.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import re

import numpy as np
import xxhash

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# The key of the digest of all other keys.
_OWN_DIGEST = "digest_of_this_file"
_REMEDY = (
    "Restore the file, or let `SoftTargetStore.create` compute it again: if "
    "the store is complete, first delete its folder; if it is not, first "
    "delete only the `.json` file of the shard."
)
# A shard is the most that a crash costs: whichever limit is reached first.
_EXAMPLES_PER_SHARD = 16384
_BYTES_PER_SHARD = 2**26


class StoreError(ValueError):
    """The store is damaged, or does not fit the data."""


def raise_mismatch(number: int):
    """Raises the error for an example with a different input."""
    raise StoreError(
        f"Example {number} (the first is 0) is not the example that was "
        "labelled. Attach the dataset in the same order as in `create`, and "
        "shuffle it afterwards. Random augmentation has to be in `augment`, "
        "and to depend on the seed that `augment` gets and on nothing else."
    )


def choose_shard_size(example_bytes: int, batch_size: int) -> int:
    """Returns the number of examples in a shard, whole batches if possible."""
    examples = min(_EXAMPLES_PER_SHARD, _BYTES_PER_SHARD // example_bytes)
    return examples // batch_size * batch_size or max(1, examples)


def split(start: int, stop: int, size: int) -> list[tuple[int, int, int]]:
    """Lists `(shard, start, stop)` for the shards of a range of examples."""
    return [
        (number, max(start, number * size), min(stop, (number + 1) * size))
        for number in range(start // size, math.ceil(stop / size))
    ]


def count_examples(examples: int, config: dict) -> dict[int, int]:
    """Returns the number of examples in each shard of a complete store."""
    parts = split(0, examples, config["examples_per_shard"])
    return {number: stop - start for number, start, stop in parts}


def write_manifest(folder, config: dict, examples: int, entries: dict) -> None:
    """Writes the manifest of a complete store."""
    content = {
        **config,
        "examples": examples // config["views"],
        "shards": [entries[number] for number in sorted(entries)],
    }
    write_json(folder / MANIFEST, content)


def read_manifest(folder) -> dict:
    """Returns the manifest of a store, empty if there is none."""
    path = folder / MANIFEST
    return read_json(path) if path.exists() else {}


def shard_path(folder, number: int):
    return folder / f"soft_targets-{number:05d}.npy"


def entry_path(folder, number: int):
    return shard_path(folder, number).with_suffix(".json")


def read_entries(folder) -> tuple[bool, dict[int, dict]]:
    """Returns whether a store is complete, and its entries by shard."""
    entries = {}
    for number, path in _list_entries(folder):
        # Another worker may remove them. Then they are in the manifest.
        with contextlib.suppress(FileNotFoundError):
            entries[number] = read_json(path)
    manifest = read_manifest(folder)
    is_complete = "shards" in manifest
    if is_complete:
        entries = dict(enumerate(manifest["shards"]))
    for number, entry in entries.items():
        if not is_entry(entry):
            raise StoreError(
                f"Expected the entry of shard {number} of {folder} to have "
                f"its examples, bytes and digest. Received: {entry!r:.200}"
            )
    return is_complete, entries


def remove_entries(folder) -> None:
    """Removes the entries, which the manifest contains by now."""
    for _, path in _list_entries(folder):
        path.unlink(missing_ok=True)


def is_entry(value) -> bool:
    """Whether a value is the entry of a shard."""
    return isinstance(value, dict) and all(
        isinstance(value.get(key), kind)
        for key, kind in (("examples", int), ("bytes", int), ("digest", str))
    )


def _list_entries(folder) -> list[tuple[int, pathlib.Path]]:
    """Lists the numbers and paths of the entries, and of no other files."""
    return [
        (int(path.stem.rpartition("-")[2]), path)
        for path in folder.glob("soft_targets-*.json")
        # A synchronized folder may have copies with other names.
        if re.fullmatch(r"soft_targets-\d+\.json", path.name)
    ]


def read_json(path) -> dict:
    """Reads what `write_json` wrote, or raises a `StoreError`."""
    if path.exists() and not path.is_file():
        raise StoreError(f"Expected {path} to be a regular file.")
    try:
        content = json.loads(path.read_text())
        whole = content.pop(_OWN_DIGEST) == _digest_json(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise StoreError(
            f"The file {path} is truncated, damaged or was changed: its digest "
            f"is wrong. {_REMEDY}"
        )
    return content


def write_json(path, content: dict) -> None:
    """Writes a dict and its digest to a file that appears when complete."""
    # Only one process at a time writes a file. The name is the same in every
    # run, so that a kill leaves no garbage for good.
    temporary = path.with_name(f".{path.name}.partial")
    # Not through a link.
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "x") as file:
            content = {**content, _OWN_DIGEST: _digest_json(content)}
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


class ShardWriter:
    """Writes one shard, which appears only when it is complete."""

    def __init__(self, folder: pathlib.Path, number: int, record: np.dtype):
        self._folder = folder
        self._number = number
        self._record = record
        self._partial = shard_path(folder, number).with_suffix(".partial")
        self._examples = 0
        with self._explain():
            # Not through a link.
            self._partial.unlink(missing_ok=True)
            self._file = open(self._partial, "x+b")  # noqa: SIM115
            self._write_header()

    def write(self, records) -> None:
        """Appends an array of records."""
        self._examples += len(records)
        with self._explain():
            self._file.write(records.tobytes())

    def commit(self) -> dict:
        """Completes the shard, gives it its name, and returns its entry."""
        path = shard_path(self._folder, self._number)
        with self._explain():
            # NumPy leaves room in the header for the number of examples.
            self._file.seek(0)
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            entry = {
                "examples": self._examples,
                "bytes": self._partial.stat().st_size,
                "digest": _digest_file(self._partial),
            }
            os.replace(self._partial, path)
            # After a power loss, there is no entry without its shard.
            _sync_folder(self._folder)
            write_json(entry_path(self._folder, self._number), entry)
        return entry

    def abandon(self) -> None:
        """Removes the unfinished file, for example on a full disk."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write_header(self):
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._record),
                "fortran_order": False,
                "shape": (self._examples,),
            },
        )

    @contextlib.contextmanager
    def _explain(self):
        try:
            yield
        except OSError as error:
            raise OSError(
                f"Could not write shard {self._number} of {self._folder}: "
                f"{error}. The complete shards stay valid. Call `create` with "
                "the same arguments to continue after them."
            ) from error


def check_file(path, entry: dict) -> None:
    """Raises a `StoreError` unless a shard is a file of the right size."""
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        raise StoreError(
            f"The shard {path} is missing, truncated, damaged or from another "
            f"store: expected a file of {entry['bytes']} bytes. {_REMEDY}"
        )


def map_shard(folder, number: int, entry, record: np.dtype, verify=True):
    """Maps the records of a shard into memory; `verify` reads all of it."""
    path = shard_path(folder, number)
    check_file(path, entry)
    problem = "its digest is not the one in the manifest"
    try:
        if not verify or _digest_file(path) == entry["digest"]:
            records = np.load(path, mmap_mode="r", allow_pickle=False)
            found = (records.dtype, records.shape)
            if found == (record, (entry["examples"],)):
                return records
    except (OSError, ValueError, EOFError) as error:
        problem = str(error)
    raise StoreError(
        f"The shard {path} is missing, truncated, damaged or from another "
        f"store: {problem}. {_REMEDY}"
    )


def _digest_file(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _digest_json(content) -> str:
    text = json.dumps(content, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _sync_folder(folder) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some mounted file systems cannot synchronize a folder.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)

"""The files of a `SoftTargetStore`.

    manifest.json                 what the store holds, and checksums
    soft_targets-00000.tfrecord   records of examples, many in a TFRecord

While a store is created there are also

    soft_targets-00000.json       what the manifest will say of that shard
    soft_targets-00001.partial    the shard in progress

A file gets its name when it is complete and on the disk. So a shard is there
once its `.json` is, whatever happens to the process or the machine.
"""

import contextlib
import json
import os

import numpy as np
import xxhash

from keras_distill.transfer.tfrecords import RecordWriter
from keras_distill.transfer.tfrecords import map_records
from keras_distill.transfer.tfrecords import read_records

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# The key of a checksum of all others.
_OF_THIS_FILE = "checksum_of_this_file"
_REMEDY = (
    "Restore the file, or delete the store and call `SoftTargetStore.create` "
    "again."
)
# In a TFRecord. Its own 16 bytes do not count among so many.
_EXAMPLES_PER_RECORD = 256
# A shard is what a crash may cost: whichever is reached first.
_EXAMPLES_PER_SHARD = 16384
_BYTES_PER_SHARD = 2**26


class StoreError(ValueError):
    """A store and the data it is asked for do not fit, or it is damaged."""


def refuse(number):
    """Raises what is wrong with an example of another input."""
    raise StoreError(
        f"Example {number} (the first is 0) is not the one that was labelled: "
        "inputs and soft targets do not belong together. Attach the dataset "
        "in the order in which `create` saw it, and shuffle it afterwards; "
        "what is random in it has to be in `augment`."
    )


def choose_shard_size(example_bytes, batch_size):
    """Returns the number of examples in a shard, whole batches if possible."""
    examples = min(_EXAMPLES_PER_SHARD, _BYTES_PER_SHARD // example_bytes)
    return max(1, examples // batch_size) * batch_size


def shard_path(folder, number):
    return folder / f"soft_targets-{number:05d}.tfrecord"


def note_path(folder, number):
    return shard_path(folder, number).with_suffix(".json")


def read_notes(folder):
    """Returns what is known of the shards that are complete, by number."""
    notes = {}
    for path in folder.glob("soft_targets-*.json"):
        # Another worker may remove them: then they are in the manifest.
        with contextlib.suppress(FileNotFoundError):
            number = int(path.stem.rpartition("-")[2])
            notes[number] = read_json(path)
    return notes


def remove_notes(folder):
    """Removes what the manifest says by now."""
    for path in folder.glob("soft_targets-*.json"):
        path.unlink(missing_ok=True)


def read_json(path):
    """Reads what `write_json` has written.

    Args:
        path: `pathlib.Path`.

    Returns:
        A dict.

    Raises:
        StoreError: If it is something else.
    """
    try:
        content = json.loads(path.read_text())
        whole = content.pop(_OF_THIS_FILE) == _hash(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise StoreError(
            f"The file {path} is truncated, damaged or was changed: its "
            f"checksum is another. {_REMEDY}"
        )
    return content


def write_json(path, content, worker, replace=True):
    """Writes a file that is there whole or not at all.

    Args:
        path: `pathlib.Path`.
        content: Dict of what JSON can hold. The file has its checksum, too.
        worker: Number of the worker that writes it.
        replace: Whether to replace a file that is there. Defaults to `True`.

    Raises:
        FileExistsError: If there is one and it is not to be replaced.
    """
    # The same in every run, so that a killed one leaves nothing for good.
    temporary = path.with_name(f".{path.name}.{worker}")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "w") as file:
            checked = {**content, _OF_THIS_FILE: _hash(content)}
            json.dump(checked, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


class ShardWriter:
    """Writes one shard, of which nothing is seen before it is complete.

    Args:
        folder: `pathlib.Path` of the store.
        number: Number of the shard.
        record: NumPy dtype of the records.
        worker: Number of the worker.
    """

    def __init__(self, folder, number, record, worker):
        self._folder = folder
        self._number = number
        self._worker = worker
        self._partial = shard_path(folder, number).with_suffix(".partial")
        self._digest = xxhash.xxh3_128()
        self._waiting = np.empty(0, record)
        self._examples = 0
        with self._explain():
            self._writer = RecordWriter(self._partial)

    def write(self, records):
        """Appends records: an array of the dtype `record`."""
        self._examples += len(records)
        waiting = np.concatenate([self._waiting, records])
        whole = len(waiting) - len(waiting) % _EXAMPLES_PER_RECORD
        self._flush(waiting[:whole])
        self._waiting = waiting[whole:]

    def commit(self):
        """Completes the shard and gives it its name."""
        self._flush(self._waiting)
        path = shard_path(self._folder, self._number)
        with self._explain():
            self._writer.close()
            with open(self._partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self._partial, path)
            write_json(
                note_path(self._folder, self._number),
                {
                    "file": path.name,
                    "examples": self._examples,
                    "bytes": path.stat().st_size,
                    "checksum": self._digest.hexdigest(),
                },
                self._worker,
            )

    def abandon(self):
        """Takes back what has been written, for instance on a full disk."""
        with contextlib.suppress(Exception):
            self._writer.close()
        self._partial.unlink(missing_ok=True)

    def _flush(self, records):
        with self._explain():
            for first in range(0, len(records), _EXAMPLES_PER_RECORD):
                content = records[first : first + _EXAMPLES_PER_RECORD]
                content = content.tobytes()
                self._digest.update(content)
                self._writer.write(content)

    @contextlib.contextmanager
    def _explain(self):
        try:
            yield
        except OSError as error:
            raise OSError(
                f"Could not write shard {self._number} of {self._folder}: "
                f"{error}. The shards that are complete stay valid: the same "
                "call of `create` goes on after them."
            ) from error


def read_shard(folder, note, record):
    """Reads all records of a shard.

    Args:
        folder: `pathlib.Path` of the store.
        note: What the manifest says of the shard.
        record: NumPy dtype of the records.

    Returns:
        Array of the dtype `record`.

    Raises:
        StoreError: If they are not those that were written.
    """
    path = folder / note["file"]
    try:
        content = b"".join(read_records(path))
    except OSError as error:
        raise StoreError(
            f"The shard {path} can not be read: it is missing, truncated or "
            f"damaged ({error}). {_REMEDY}"
        ) from error
    if (
        len(content) != note["examples"] * record.itemsize
        or xxhash.xxh3_128_hexdigest(content) != note["checksum"]
    ):
        raise StoreError(
            f"The shard {path} is truncated, damaged or that of another store: "
            f"its checksum is not that of the manifest. {_REMEDY}"
        )
    return np.frombuffer(content, record)


class MappedShard:
    """A shard whose records stay in the file until they are asked for.

    It is read as a whole once, to compare the checksum.

    Args:
        folder: As in `read_shard`.
        note: As in `read_shard`.
        record: As in `read_shard`.

    Raises:
        StoreError: As `read_shard` does.
    """

    def __init__(self, folder, note, record):
        read_shard(folder, note, record)
        path = folder / note["file"]
        whole, rest = divmod(note["examples"], _EXAMPLES_PER_RECORD)
        self._examples = note["examples"]
        self._full, end = map_records(
            path, 0, np.dtype((record, (_EXAMPLES_PER_RECORD,))), whole
        )
        self._last, _ = map_records(
            path, end, np.dtype((record, (rest,))), min(rest, 1)
        )

    def __getitem__(self, key):
        """Returns the records of a slice, as an array."""
        positions = np.arange(*key.indices(self._examples))
        record, place = np.divmod(positions, _EXAMPLES_PER_RECORD)
        full = record < len(self._full)
        return np.concatenate(
            [
                self._full[record[full], place[full]],
                self._last[record[~full] - len(self._full), place[~full]],
            ]
        )


def _hash(content):
    """Returns a checksum of what JSON can hold."""
    text = json.dumps(content, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _place(temporary, path):
    """Gives a file its name, unless there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # Not every file system has hard links.
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(temporary, path)


def _sync_folder(folder):
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

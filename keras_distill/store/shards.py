"""The files of a `SoftTargetStore`.

    manifest.json             what the store holds, with a digest of each shard
    soft_targets-00000.npy    the records of one shard

While a store is created there are also

    soft_targets-00000.json   the entry of the manifest for a complete shard
    soft_targets-00001.partial    the shard in progress

A file gets its final name when it is complete and on the disk. A shard is
complete once its `.json` exists, whatever happens to the process.
"""

import contextlib
import errno
import json
import os

import numpy as np
import xxhash

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# The key of the digest of all other keys.
_OWN_DIGEST = "digest_of_this_file"
_REMEDY = (
    "Restore the file, or delete the store and call `SoftTargetStore.create` "
    "again."
)
# A shard is what a crash may cost: whichever limit is reached first.
_EXAMPLES_PER_SHARD = 16384
_BYTES_PER_SHARD = 2**26
_BYTES_AT_ONCE = 2**20


class StoreError(ValueError):
    """The store is damaged, or does not fit the data."""


def raise_mismatch(number: int):
    """Raises the error for an example with a different input."""
    raise StoreError(
        f"Example {number} (the first is 0) is not the example that was "
        "labelled. Attach the dataset in the same order as in `create`, and "
        "shuffle it afterwards. Random augmentation has to be in `augment`."
    )


def choose_shard_size(example_bytes: int, batch_size: int) -> int:
    """Returns the number of examples in a shard, whole batches if possible."""
    examples = min(_EXAMPLES_PER_SHARD, _BYTES_PER_SHARD // example_bytes)
    return examples // batch_size * batch_size or max(1, examples)


def shard_path(folder, number: int):
    return folder / f"soft_targets-{number:05d}.npy"


def entry_path(folder, number: int):
    return shard_path(folder, number).with_suffix(".json")


def read_entries(folder) -> dict:
    """Returns the manifest entries of complete shards, by number."""
    entries = {}
    for path in folder.glob("soft_targets-*.json"):
        # Another worker may remove them. Then they are in the manifest.
        with contextlib.suppress(FileNotFoundError):
            number = int(path.stem.rpartition("-")[2])
            entries[number] = read_json(path)
    return entries


def remove_entries(folder) -> None:
    """Removes the entries that are in the manifest by now."""
    for path in folder.glob("soft_targets-*.json"):
        path.unlink(missing_ok=True)


def read_json(path) -> dict:
    """Reads what `write_json` wrote, or raises a `StoreError`."""
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


def write_json(path, content: dict, worker: int, replace: bool = True) -> None:
    """Writes a file that appears complete or not at all.

    Args:
        path: `pathlib.Path`.
        content: Dict for JSON. The file also contains its digest.
        worker: Number of the worker that writes it.
        replace: Whether to replace an existing file. Defaults to `True`.

    Raises:
        FileExistsError: If the file exists and is not to be replaced.
    """
    # The same name in every run, so that a kill leaves no garbage for good.
    temporary = path.with_name(f".{path.name}.{worker}")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "w") as file:
            content = {**content, _OWN_DIGEST: _digest_json(content)}
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


class ShardWriter:
    """Writes one shard, which appears only when it is complete.

    Args:
        folder: `pathlib.Path` of the store.
        number: Number of the shard.
        record: NumPy dtype of the records.
        worker: Number of the worker.
    """

    def __init__(self, folder, number, record, worker):
        self._folder = folder
        self._number = number
        self._record = record
        self._worker = worker
        self._partial = shard_path(folder, number).with_suffix(".partial")
        self._examples = 0
        with self._explain():
            self._file = open(self._partial, "w+b")  # noqa: SIM115
            self._write_header()

    def write(self, records) -> None:
        """Appends records: an array of the dtype `record`."""
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
                "file": path.name,
                "examples": self._examples,
                "bytes": self._partial.stat().st_size,
                "digest": _digest_file(self._partial),
            }
            os.replace(self._partial, path)
            # After a power loss, there is no entry without its shard.
            _sync_folder(self._folder)
            write_json(
                entry_path(self._folder, self._number), entry, self._worker
            )
        return entry

    def abandon(self) -> None:
        """Removes what was written, for example on a full disk."""
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


def map_shard(folder, entry: dict, record, verify: bool = True):
    """Maps the records of a shard into memory.

    Args:
        folder: `pathlib.Path` of the store.
        entry: Entry of the manifest for the shard.
        record: NumPy dtype of the records.
        verify: Whether to compare the digest, which reads the whole file.

    Returns:
        Array of the dtype `record`, which is read when it is used.

    Raises:
        StoreError: If the file is not the one that was written.
    """
    path = folder / entry["file"]
    try:
        whole = not verify or _digest_file(path) == entry["digest"]
        records = (
            np.load(path, mmap_mode="r", allow_pickle=False) if whole else None
        )
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(
            f"The shard {path} cannot be read: it is missing, truncated or "
            f"damaged ({error}). {_REMEDY}"
        ) from error
    if (
        records is None
        or records.dtype != record
        or records.shape != (entry["examples"],)
    ):
        raise StoreError(
            f"The shard {path} is truncated, damaged or from another store: "
            f"its digest is not the one in the manifest. {_REMEDY}"
        )
    return records


def _digest_file(path) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while content := file.read(_BYTES_AT_ONCE):
            digest.update(content)
    return digest.hexdigest()


def _digest_json(content) -> str:
    text = json.dumps(content, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _link(temporary, path) -> None:
    """Gives a file its name, unless the name exists."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems have no hard links.
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(temporary, path)


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

"""Creating a `SoftTargetStore`: the run of a teacher over a transfer set."""

import math
import pathlib
import time
import typing
import warnings

import filelock
import keras
import numpy as np

from keras_distill.store import shards
from keras_distill.store.records import RecordFormat
from keras_distill.store.records import get_fingerprints
from keras_distill.validation import check_integer


class Job(typing.NamedTuple):
    """The part of a worker in the creation of a store.

    Args:
        folder: `pathlib.Path` of the store.
        format: `RecordFormat`.
        config: The first part of the manifest, for JSON. It is the same in
            every worker and every run.
        worker: Number of this worker.
    """

    folder: pathlib.Path
    format: RecordFormat
    config: dict
    worker: int

    def is_own(self, shard: int) -> bool:
        """Whether this worker writes a shard."""
        return shard % self.config["workers"] == self.worker


class Progress:
    """Shows how many examples are labelled, as Keras shows its progress."""

    def __init__(self, examples, verbose):
        self._bar = keras.utils.Progbar(
            examples,
            verbose=1 if verbose == "auto" else verbose,
            unit_name="example",
            stateful_metrics=["examples/s"],
        )
        self._begin = time.perf_counter()
        self._labelled = 0

    def show(self, position, labelled):
        self._labelled = labelled
        self._update(position, finalize=False)

    def end(self, position):
        self._bar.target = position
        self._update(position, finalize=True)

    def _update(self, position, finalize):
        rate = self._labelled / (time.perf_counter() - self._begin)
        self._bar.update(
            position, values=[("examples/s", rate)], finalize=finalize
        )


def check_shard(shard):
    """Returns the number of a worker, and of all workers."""
    if not isinstance(shard, (list, tuple)) or len(shard) != 2:
        raise ValueError(
            "Expected `shard` to be a tuple `(i, n)`: worker i of n. "
            f"Received: shard={shard!r}"
        )
    workers = check_integer("shard[1]", shard[1], low=1)
    return check_integer("shard[0]", shard[0], low=0, high=workers - 1), workers


def check_shard_size(config, batch_size):
    """Refuses shards that are smaller than a batch, for several workers."""
    if config["workers"] > 1 and config["examples_per_shard"] < batch_size:
        raise ValueError(
            "Expected `examples_per_shard` to be at least the size of a batch, "
            f"{batch_size}, for several workers, which label whole batches. "
            f"Received: examples_per_shard={config['examples_per_shard']}"
        )


def check_views(views, augment, seed):
    """Returns valid `views` and `seed` for JSON."""
    views = check_integer("views", views, low=1)
    seed = check_integer("seed", seed, low=0)
    if augment is not None and not callable(augment):
        raise ValueError(
            "Expected `augment` to be a function `(x, seed) -> x`. "
            f"Received: augment={augment!r}"
        )
    if views > 1 and augment is None:
        raise ValueError(
            "Several `views` need an `augment`, a function `(x, seed) -> x`. "
            "Otherwise all views would be equal. "
            f"Received: views={views}, augment=None"
        )
    return views, seed


def lock(folder, worker: int, workers: int):
    """Returns a context in which no other process is the same worker.

    The operating system frees the lock when the process ends, also by a kill.

    Raises:
        RuntimeError: If another process has the lock.
    """
    try:
        return filelock.FileLock(
            folder / f".worker-{worker}-of-{workers}.lock"
        ).acquire(blocking=False)
    except filelock.Timeout:
        raise RuntimeError(
            f"Another process is creating the store {folder}. To share the "
            "work among n processes, pass a different `shard=(i, n)` to each. "
            f"Received: shard={(worker, workers)}"
        ) from None


def read_manifest(folder) -> dict:
    """Returns the manifest of a store, empty if there is none."""
    path = folder / shards.MANIFEST
    return shards.read_json(path) if path.exists() else {}


def begin(job: Job) -> None:
    """Writes the manifest, or checks that the existing one is the same.

    Raises:
        ValueError: If the store was begun with something else.
    """
    try:
        shards.write_json(
            job.folder / shards.MANIFEST, job.config, job.worker, replace=False
        )
        return
    except FileExistsError:
        manifest = read_manifest(job.folder)
    for key, value in job.config.items():
        if manifest.get(key) != value:
            raise ValueError(
                f"The store {job.folder} was begun with another `{key}`: "
                f"{manifest.get(key)!r}. Call `create` with the same arguments "
                "to continue it, or with another path. "
                f"Received: {value!r}"
            )
    if job.config["teacher"] is None:
        warnings.warn(
            f"The store {job.folder} was begun by a teacher that is a "
            "function. It is unknown whether it is the same function.",
            stacklevel=3,
        )
    if "shards" in manifest:
        # A former run may have been killed just before it removed them.
        shards.remove_entries(job.folder)


def label(job: Job, batches, predict, show) -> int:
    """Writes the missing shards of a worker, and checks the existing ones.

    Args:
        job: `Job`.
        batches: Iterable of the inputs of each batch and their fingerprints.
        predict: Function from inputs to the soft targets as arrays.
        show: Function that gets the number of examples so far, and the number
            of labelled ones.

    Returns:
        The number of all examples.

    Raises:
        ValueError: If the transfer set is not the one of a former run, or soft
            targets cannot be stored.
        OSError: If a shard cannot be written.
    """
    size = job.config["examples_per_shard"]
    is_complete, entries = _read_entries(job)
    existing = _ExistingShards(job, entries)
    position = labelled = 0
    writer = None
    try:
        for x, fingerprints in batches:
            fingerprints = np.asarray(fingerprints)
            stop = position + len(fingerprints)
            parts = split(position, stop, size)
            if any(job.is_own(n) and n not in entries for n, *_ in parts):
                if is_complete:
                    raise _mismatch(job, "it has more examples")
                records = job.format.encode(predict(x), fingerprints, position)
                labelled += len(records)
            for number, start, end in parts:
                part = slice(start - position, end - position)
                if not job.is_own(number):
                    continue
                if number in entries:
                    existing.check(
                        number, start - number * size, fingerprints[part]
                    )
                    continue
                if writer is None:
                    writer = shards.ShardWriter(
                        job.folder, number, job.format.record, job.worker
                    )
                writer.write(records[part])
                if end == (number + 1) * size:
                    writer.commit()
                    writer = None
            position = stop
            show(position, labelled)
        if writer is not None:
            writer.commit()
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    return position


def finish(job: Job, examples: int) -> bool:
    """Completes the manifest if all shards exist; returns whether they do.

    Args:
        job: `Job`.
        examples: The number of all examples, of all workers.

    Raises:
        ValueError: If a former run saw a different number of examples.
    """
    is_complete, entries = _read_entries(job)
    expected = count_shards(examples, job.config)
    for number, entry in entries.items():
        if entry["examples"] != expected.get(number, 0):
            raise _mismatch(
                job, f"it has {examples} examples, and had a different number"
            )
    if is_complete:
        # From a former run, or from another worker.
        return True
    if len(entries) < len(expected):
        return False
    shards.write_json(
        job.folder / shards.MANIFEST,
        complete(job.config, examples, entries),
        job.worker,
    )
    shards.remove_entries(job.folder)
    return True


def count_shards(examples: int, config: dict) -> dict:
    """Returns the number of examples in each shard, by its number."""
    size = config["examples_per_shard"]
    return {
        number: stop - start for number, start, stop in split(0, examples, size)
    }


def complete(config: dict, examples: int, entries: dict) -> dict:
    """Returns the manifest of a complete store."""
    return {
        **config,
        "examples": examples // config["views"],
        "shards": [entries[number] for number in sorted(entries)],
    }


def split(start: int, stop: int, size: int) -> list[tuple]:
    """Lists `(shard, start, stop)` for the shards that contain some examples.

    Args:
        start: Number of the first example.
        stop: Number of the example after the last one.
        size: Number of examples in a shard.
    """
    return [
        (number, max(start, number * size), min(stop, (number + 1) * size))
        for number in range(start // size, math.ceil(stop / size))
    ]


def _read_entries(job):
    """Returns whether a store is complete, and the entries of its shards."""
    # First the files: the last worker removes them when the manifest has them.
    entries = shards.read_entries(job.folder)
    manifest = read_manifest(job.folder)
    if "shards" in manifest:
        return True, dict(enumerate(manifest["shards"]))
    return False, entries


class _ExistingShards:
    """Compares a transfer set with the shards that are complete."""

    def __init__(self, job, entries):
        self._job = job
        self._entries = entries
        self._number = None
        self._fingerprints: typing.Any = None

    def check(self, number, offset, fingerprints):
        """Raises a `ValueError` for the examples that differ."""
        if number != self._number:
            self._number = number
            records = shards.map_shard(
                self._job.folder, self._entries[number], self._job.format.record
            )
            self._fingerprints = np.array(get_fingerprints(records))
        stored = self._fingerprints[offset : offset + len(fingerprints)]
        if not np.array_equal(stored, fingerprints):
            first = offset + number * self._job.config["examples_per_shard"]
            raise _mismatch(
                self._job,
                f"examples {first} to {first + len(fingerprints) - 1} differ",
            )


def _mismatch(job, how):
    return ValueError(
        f"The transfer set is not the one that the store {job.folder} was "
        f"begun with: {how}. The inputs have to come in the same order, and "
        "random augmentation has to be in `augment`, which can be replayed. "
        "For another transfer set, pass another path."
    )

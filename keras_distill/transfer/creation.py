"""How a `SoftTargetStore` comes to be: the run through the transfer set."""

import math
import pathlib
import typing
import warnings

import filelock
import numpy as np

from keras_distill.transfer import shards
from keras_distill.transfer.records import RecordFormat
from keras_distill.transfer.records import get_fingerprints


class Plan(typing.NamedTuple):
    """What a worker has to do.

    Args:
        folder: `pathlib.Path` of the store.
        format: `RecordFormat`.
        config: What the manifest begins with, as JSON has it: the same in
            every worker and every run.
        worker: Number of this worker.
    """

    folder: pathlib.Path
    format: RecordFormat
    config: dict
    worker: int

    def is_own(self, shard):
        """Whether this worker writes a shard."""
        return shard % self.config["workers"] == self.worker


def lock(folder, worker, workers):
    """Returns a context in which no other process is the same worker.

    The operating system frees the lock when the process ends, however it ends.

    Raises:
        RuntimeError: If there is such a process.
    """
    try:
        return filelock.FileLock(
            folder / f".worker-{worker}-of-{workers}.lock"
        ).acquire(blocking=False)
    except filelock.Timeout:
        raise RuntimeError(
            f"Another process is creating the store {folder}. Several share "
            "the work where each of the n has a `shard=(i, n)` of its own. "
            f"Received: shard={(worker, workers)}"
        ) from None


def read_manifest(folder):
    """Returns the manifest of a store, or an empty dict if there is none."""
    path = folder / shards.MANIFEST
    return shards.read_json(path) if path.exists() else {}


def begin(plan):
    """Writes the manifest, or sees to it that the one there is the same.

    Raises:
        ValueError: If the store was begun with something else.
    """
    try:
        shards.write_json(
            plan.folder / shards.MANIFEST,
            plan.config,
            plan.worker,
            replace=False,
        )
    except FileExistsError:
        manifest = read_manifest(plan.folder)
        for key, value in plan.config.items():
            if manifest.get(key) != value:
                raise ValueError(
                    f"The store {plan.folder} was begun with another `{key}`: "
                    f"{manifest.get(key)!r}. Call `create` as before to go on "
                    "with it, or with another path. "
                    f"Received: {value!r}"
                ) from None
        if plan.config["teacher"] is None:
            warnings.warn(
                f"The store {plan.folder} was begun by a teacher that is a "
                "function, of which nobody can tell whether it is this one.",
                stacklevel=3,
            )
        if "shards" in manifest:
            # A former run may have ended just before it did so.
            shards.remove_notes(plan.folder)


def label(plan, batches, predict, show):
    """Writes what is missing of the shards of a worker, and checks the others.

    Args:
        plan: `Plan`.
        batches: Iterable of the inputs of each batch and their fingerprints,
            as tensors.
        predict: Function of these that returns the soft targets as arrays.
        show: Function that is shown the number of examples so far, and how
            many of them were labelled.

    Returns:
        The number of all examples.

    Raises:
        ValueError: If the transfer set is not that of a former run, or soft
            targets can not be stored.
        OSError: If a shard can not be written.
    """
    size = plan.config["examples_per_shard"]
    is_complete, notes = _read_notes(plan)
    former = _Former(plan, notes)
    position = labelled = 0
    writer = None
    try:
        for x, fingerprints in batches:
            fingerprints = fingerprints.numpy()
            stop = position + len(fingerprints)
            parts = split(position, stop, size)
            if any(plan.is_own(n) and n not in notes for n, *_ in parts):
                if is_complete:
                    raise _other_data(plan, "it has more examples")
                records = plan.format.encode(predict(x), fingerprints, position)
                labelled += len(records)
            for number, start, end in parts:
                part = slice(start - position, end - position)
                if not plan.is_own(number):
                    continue
                if number in notes:
                    former.check(
                        number, start - number * size, fingerprints[part]
                    )
                    continue
                if writer is None:
                    writer = shards.ShardWriter(
                        plan.folder, number, plan.format.record, plan.worker
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


def finish(plan, examples):
    """Completes the manifest once all shards are there.

    Args:
        plan: `Plan`.
        examples: The number of all examples, those of other workers included.

    Returns:
        Whether they are.

    Raises:
        ValueError: If a former run saw another number of examples.
    """
    is_complete, notes = _read_notes(plan)
    expected = count_shards(examples, plan.config)
    for number, note in notes.items():
        if note["examples"] != expected.get(number, 0):
            raise _other_data(
                plan, f"it has {examples} examples, and had another number"
            )
    if is_complete:
        # As before, or another worker was the last.
        return True
    if len(notes) < len(expected):
        return False
    shards.write_json(
        plan.folder / shards.MANIFEST,
        complete(plan.config, examples, notes),
        plan.worker,
    )
    shards.remove_notes(plan.folder)
    return True


def count_shards(examples, config):
    """Returns the number of examples in each shard, by its number.

    Args:
        examples: The number of all examples.
        config: What the manifest begins with.
    """
    size = config["examples_per_shard"]
    return {
        number: stop - start for number, start, stop in split(0, examples, size)
    }


def complete(config, examples, notes):
    """Returns the manifest of a store that is complete.

    Args:
        config: What it begins with.
        examples: The number of all examples.
        notes: What it says of each shard, by number.
    """
    return {
        **config,
        "examples": examples // config["views"],
        "shards": [notes[number] for number in sorted(notes)],
    }


def split(start, stop, size):
    """Lists `(shard, start, stop)` for the shards that examples fall into.

    Args:
        start: Number of the first example.
        stop: That of the one after the last.
        size: Number of examples in a shard.
    """
    return [
        (number, max(start, number * size), min(stop, (number + 1) * size))
        for number in range(start // size, math.ceil(stop / size))
    ]


def _read_notes(plan):
    """Returns whether a store is complete, and what is known of its shards."""
    # First these: the last worker removes them when the manifest has them.
    notes = shards.read_notes(plan.folder)
    manifest = read_manifest(plan.folder)
    if "shards" in manifest:
        return True, dict(enumerate(manifest["shards"]))
    return False, notes


class _Former:
    """Compares a transfer set with the shards that are complete."""

    def __init__(self, plan, notes):
        self._plan = plan
        self._notes = notes
        self._number = None
        self._fingerprints: typing.Any = None

    def check(self, number, offset, fingerprints):
        if number != self._number:
            self._number = number
            records = shards.read_shard(
                self._plan.folder, self._notes[number], self._plan.format.record
            )
            self._fingerprints = get_fingerprints(records)
        stored = self._fingerprints[offset : offset + len(fingerprints)]
        if not np.array_equal(stored, fingerprints):
            first = offset + number * self._plan.config["examples_per_shard"]
            raise _other_data(
                self._plan,
                f"examples {first} to {first + len(fingerprints) - 1} differ",
            )


def _other_data(plan, how):
    return ValueError(
        f"The transfer set is not the one that the store {plan.folder} was "
        f"begun with: {how}. Soft targets belong to their inputs, so these "
        "have to come in the same order, and augmentation has to be an "
        "`augment` that can be replayed. For another set pass another path."
    )

"""Creating a `SoftTargetStore`: the run of a teacher over a transfer set."""

import contextlib
import functools
import itertools
import pathlib
import time

import filelock
import keras
import numpy as np

from keras_distill.data.batches import closing_iterator
from keras_distill.store import shards
from keras_distill.store.encoder import TargetEncoder
from keras_distill.store.manifest import check_manifest
from keras_distill.store.records import RecordFormat
from keras_distill.store.transfer_set import TransferSet
from keras_distill.validation import check_integer
from keras_distill.validation import check_verbose


def create_store(
    folder: pathlib.Path,
    encoder: TargetEncoder,
    transfer_set: TransferSet,
    shard: tuple[int, int],
    verbose,
) -> bool:
    """Labels the part of one worker. Returns whether the store is complete."""
    worker, workers = _check_shard(shard)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _lock_worker(folder, worker, workers),
        closing_iterator(transfer_set) as batches,
    ):
        # An empty batch does not show the shape of the outputs.
        first = next((batch for batch in batches if len(batch[1])), None)
        if first is None:
            raise ValueError(
                "Expected `dataset` to have at least one example. "
                "Received: none"
            )
        inputs, fingerprints = first
        batch_size = len(fingerprints)
        config = encoder.describe(inputs, batch_size) | {
            "views": transfer_set.views,
            "seed": transfer_set.seed,
            "workers": workers,
        }
        key = "examples_per_shard"
        begun = shards.read_manifest(folder)
        if begun and encoder.storage.examples_per_shard is None:
            config[key] = begun.get(key, config[key])
        if workers > 1 and config[key] < batch_size:
            raise ValueError(
                f"Expected `{key}` to be at least the size of a batch, "
                f"{batch_size}, because each of several workers labels whole "
                f"batches. Received: {key}={config[key]}"
            )
        job = _Job(folder, config, worker)
        job.begin()
        progress = _Progress(transfer_set.count(batch_size), verbose)
        all_batches = itertools.chain([first], batches)
        return job.finish(job.label(all_batches, encoder, progress))


class _Job:
    """The part of one worker in the creation of a store."""

    def __init__(self, folder: pathlib.Path, config: dict, worker: int):
        self._folder = folder
        # The first part of the manifest, the same in all workers and runs.
        self._config = config
        self._worker = worker
        self._record = RecordFormat.from_config(config).record

    def begin(self) -> None:
        """Writes the manifest, or checks that the existing one is the same."""
        with self._lock_manifest():
            manifest = shards.read_manifest(self._folder)
            if not manifest:
                shards.write_json(self._folder / shards.MANIFEST, self._config)
                return
        for key, value in self._config.items():
            if manifest.get(key) != value:
                raise ValueError(
                    f"The store {self._folder} was begun with another `{key}`: "
                    f"{manifest.get(key)!r}. Call `create` with the same "
                    "arguments to continue it, or with another path. "
                    f"Received: {value!r}"
                )
        if "shards" in manifest:
            check_manifest(self._folder, manifest)
            # A former run may have been killed just before it removed them.
            shards.remove_entries(self._folder)

    def label(self, batches, encoder, progress) -> int:
        """Writes missing shards, compares existing ones, counts examples."""
        size = self._config["examples_per_shard"]
        is_complete, entries = shards.read_entries(self._folder)
        position = labelled = 0
        writer = None

        @functools.lru_cache(maxsize=1)
        def read_fingerprints(number):
            records = shards.map_shard(
                self._folder, number, entries[number], self._record
            )
            return np.array(records["fingerprint"])

        try:
            for x, fingerprints in batches:
                fingerprints = np.asarray(fingerprints)
                stop = position + len(fingerprints)
                parts = [
                    part
                    for part in shards.split(position, stop, size)
                    if part[0] % self._config["workers"] == self._worker
                ]
                if any(number not in entries for number, *_ in parts):
                    if is_complete:
                        raise self._mismatch("it has more examples")
                    records = encoder.encode(x, fingerprints, position)
                    labelled += len(records)
                for number, first, end in parts:
                    rows = slice(first - position, end - position)
                    if number in entries:
                        stored = read_fingerprints(number)[first % size :]
                        if not np.array_equal(
                            stored[: end - first], fingerprints[rows]
                        ):
                            raise self._mismatch(
                                f"examples {first} to {end - 1} differ"
                            )
                        continue
                    if writer is None:
                        writer = shards.ShardWriter(
                            self._folder, number, self._record
                        )
                    writer.write(records[rows])
                    if end == (number + 1) * size:
                        writer.commit()
                        writer = None
                position = stop
                progress.update(position, labelled)
            if writer is not None:
                writer.commit()
        except BaseException:
            if writer is not None:
                writer.abandon()
            raise
        progress.update(position, labelled, finalize=True)
        return position

    def finish(self, examples: int) -> bool:
        """Completes the manifest if all shards exist. Returns whether so."""
        with self._lock_manifest():
            is_complete, entries = shards.read_entries(self._folder)
            found = {number: entries[number]["examples"] for number in entries}
            expected = shards.count_examples(examples, self._config)
            if not found.items() <= expected.items() or (
                is_complete and found != expected
            ):
                raise self._mismatch(
                    f"it has {examples} examples, and had a different number"
                )
            if not is_complete and found == expected:
                shards.write_manifest(
                    self._folder, self._config, examples, entries
                )
                shards.remove_entries(self._folder)
            return found == expected

    def _lock_manifest(self):
        """Returns a context in which no other worker writes the manifest."""
        if _is_complete(self._folder):
            return contextlib.nullcontext()
        return filelock.FileLock(self._folder / ".manifest.lock")

    def _mismatch(self, problem: str):
        return ValueError(
            f"The transfer set is not the one that the store {self._folder} "
            f"was begun with: {problem}. The inputs have to come in the same "
            "order, and random augmentation has to be in `augment`, which can "
            "be replayed. For another transfer set, pass another path."
        )


class _Progress:
    """Shows how many examples are labelled, with a progress bar of Keras."""

    def __init__(self, examples: int | None, verbose):
        self._bar = keras.utils.Progbar(
            examples,
            verbose=check_verbose(verbose),
            unit_name="example",
            stateful_metrics=["examples/s"],
        )
        self._begin = time.perf_counter()

    def update(self, position: int, labelled: int, finalize=False) -> None:
        if finalize:
            self._bar.target = position
        rate = labelled / (time.perf_counter() - self._begin)
        self._bar.update(position, [("examples/s", rate)], finalize)


def _check_shard(shard):
    """Returns the number of a worker, and of all workers."""
    if not isinstance(shard, (list, tuple)) or len(shard) != 2:
        raise ValueError(
            "Expected `shard` to be a tuple `(i, n)`: worker i of n. "
            f"Received: shard={shard!r}"
        )
    workers = check_integer("shard[1]", shard[1], low=1)
    return check_integer("shard[0]", shard[0], low=0, high=workers - 1), workers


def _is_complete(folder) -> bool:
    """Whether there is nothing to write: the folder may be read-only."""
    return "shards" in shards.read_manifest(folder)


def _lock_worker(folder, worker: int, workers: int):
    """Returns a context in which no other process is the same worker."""
    if _is_complete(folder):
        return contextlib.nullcontext()
    # The operating system frees a lock when the process ends, also by a kill.
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

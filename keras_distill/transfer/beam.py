"""Soft targets by Apache Beam: labelled on as many machines as there are."""

import collections
import json
import numbers
import os
import pathlib
import tempfile
import threading
import uuid

import keras
import numpy as np
import tensorflow as tf

try:
    import apache_beam as beam
except ImportError as error:
    raise ImportError(
        "To label with Apache Beam needs it: "
        "`pip install 'keras-distill[beam]'`."
    ) from error

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from keras_distill.transfer import creation
from keras_distill.transfer import pipelines
from keras_distill.transfer import shards
from keras_distill.transfer.recording import BATCH_SIZE
from keras_distill.transfer.recording import Recording
from keras_distill.transfer.recording import check_storage
from keras_distill.transfer.records import RecordFormat
from keras_distill.validation import check_integer

__all__ = ["WriteToSoftTargetStore"]

_MANIFEST = "manifest"


class WriteToSoftTargetStore(beam.PTransform):
    """Labels a transfer set with a teacher and writes a `SoftTargetStore`.

    It does what `SoftTargetStore.create` does, on every runner that Beam has:
    Dataflow, Flink, Spark, or the processes of one machine. The same examples
    in the same batches give the same files.

    A collection has no order, so each example comes with its number: its
    position in the dataset that `SoftTargetStore.attach` will be given.

    Batches are labelled in any order, on all workers, each of which has one
    teacher. Their records are then grouped into shards: a worker holds the
    inputs of a batch, or the records of a shard, which are at most 64 MiB
    unless `examples_per_shard` says otherwise. A store that is not complete
    has no manifest, and the pipeline can be run again.

    Each example is labelled as it is. `views` and `augment`, and to go on
    after a crash, are of `SoftTargetStore.create` alone.

    Example:

    ```python
    import apache_beam as beam
    from keras_distill.transfer.beam import WriteToSoftTargetStore

    teacher.save("teacher.keras")

    with beam.Pipeline() as pipeline:
        (
            pipeline
            | beam.Create(list(enumerate(x)))
            | WriteToSoftTargetStore("soft_targets/", "teacher.keras")
        )

    store = keras_distill.SoftTargetStore("soft_targets/")
    ```

    Args:
        path: Folder of the store, where Beam can write: one that all workers
            share, or in a cloud, such as `"gs://bucket/soft_targets"`. It is
            read from a folder of the machine that trains, or one mounted
            there.
        teacher: Path of a `.keras` file that all workers can read, or a
            function without arguments that returns the teacher, as `Distiller`
            takes it. It is called once in each process of a worker.
        top_k: As in `SoftTargetStore.create`, and so are the next three.
        dtype: See there.
        temperatures: See there.
        from_logits: See there.
        batch_size: Of the teacher. Defaults to 256.
        examples_per_shard: Number of examples in a file. Defaults to `None`:
            16,384 examples or 64 MiB.

    Returns:
        A `PCollection` of one element, the path, once the store is complete.
        It is applied to a bounded one of `(number, x)`: an integer from 0, and
        the inputs of one example, an array or a structure of arrays.

    Raises:
        ValueError: If an argument is not of the kind above, or there is a
            store. While the pipeline runs, if a number is missing or comes
            twice, soft targets can not be stored, or workers have different
            teachers. Teachers that are plain functions can not be told apart.
    """

    def __init__(
        self,
        path,
        teacher,
        top_k=None,
        dtype="float16",
        temperatures=None,
        from_logits=True,
        batch_size=BATCH_SIZE,
        examples_per_shard=None,
    ):
        super().__init__()
        top_k, examples_per_shard = check_storage(
            top_k, dtype, examples_per_shard
        )
        batch_size = check_integer("batch_size", batch_size, low=1)
        self._path = _check_path(path)
        self._batch_size = batch_size
        self._label = _Label(
            _Loader(
                _check_teacher(teacher), top_k, dtype, temperatures, from_logits
            ),
            batch_size,
            examples_per_shard,
        )

    def expand(self, examples):
        if not examples.is_bounded:
            raise ValueError(
                "Expected a bounded collection: a store is complete when all "
                f"of its examples are labelled. Received: {examples}"
            )
        manifest = FileSystems.join(self._path, shards.MANIFEST)
        if FileSystems.exists(manifest):
            raise ValueError(
                "Expected a folder without a store. Received: "
                f"path={self._path!r}, which has a {shards.MANIFEST}"
            )
        labelled = (
            examples
            | "FindBatch" >> beam.Map(_find_batch, self._batch_size)
            | "GroupBatches" >> beam.GroupByKey()
            | "Label"
            >> beam.ParDo(self._label).with_outputs(_MANIFEST, main="records")
        )
        begin = beam.pvalue.AsList(
            labelled[_MANIFEST] | "CompareWorkers" >> beam.Distinct()
        )
        notes = (
            labelled["records"]
            | "GroupShards" >> beam.GroupByKey()
            | "WriteShard" >> beam.Map(_write_shard, begin, self._path)
        )
        return (
            examples.pipeline
            | "Once" >> beam.Create([self._path])
            | "WriteManifest"
            >> beam.Map(_write_manifest, begin, beam.pvalue.AsList(notes))
        )


class _Loader:
    """Makes the `Recording` of a worker.

    Args:
        teacher: Path, or function without arguments.
        *how: The other arguments of `Recording`.
    """

    def __init__(self, teacher, *how):
        self._teacher = teacher
        self._how = how
        self._shared = Shared()

    def load(self):
        """Returns the one of this process."""
        return self._shared.acquire(self._make)

    def _make(self):
        teacher = self._teacher
        if callable(teacher):
            teacher = teacher()
        else:
            with tempfile.TemporaryDirectory() as folder:
                local = pathlib.Path(folder, "teacher.keras")
                with FileSystems.open(
                    teacher, compression_type=CompressionTypes.UNCOMPRESSED
                ) as file:
                    local.write_bytes(file.read())
                teacher = keras.saving.load_model(local, compile=False)
        return _LockedRecording(teacher, *self._how)


class _LockedRecording(Recording):
    """A `Recording` that the threads of a worker use one after another."""

    def __init__(self, *args):
        super().__init__(*args)
        self._lock = threading.Lock()

        self._format = None

    def inspect(self, inputs):
        with self._lock:
            if self._format is None:
                self._format = super().inspect(inputs)
            return self._format

    def predict(self, inputs):
        with self._lock:
            return super().predict(inputs)


class _Label(beam.DoFn):
    """Turns a batch of examples into records.

    Args:
        loader: `_Loader`.
        batch_size: Integer.
        examples_per_shard: Integer or `None`.
    """

    def __init__(self, loader, batch_size, examples_per_shard):
        super().__init__()
        self._loader = loader
        self._batch_size = batch_size
        self._examples_per_shard = examples_per_shard

    def setup(self):
        self._recording = self._loader.load()

    def process(self, batch):
        """Yields parts of shards, and what the manifest begins with.

        Args:
            batch: Tuple of its number and the `(number, x)` in it.
        """
        number, examples = batch
        start = number * self._batch_size
        examples = dict(_check_numbers(examples, start))
        inputs = keras.tree.map_structure(
            lambda *each: tf.convert_to_tensor(np.stack(each)),
            *(
                keras.tree.lists_to_tuples(examples[n])
                for n in sorted(examples)
            ),
        )
        stop = start + len(examples)
        format = self._recording.inspect(inputs)
        config = self._recording.describe(
            format,
            pipelines.describe_inputs(inputs, batched=True),
            self._examples_per_shard,
            # A batch that is not the first follows a whole one.
            self._batch_size if start else stop,
        )
        yield beam.pvalue.TaggedOutput(_MANIFEST, json.dumps(config))
        records = format.encode(
            self._recording.predict(inputs),
            pipelines.fingerprint_examples(inputs).numpy(),
            start,
        )
        for shard, first, end in creation.split(
            start, stop, config["examples_per_shard"]
        ):
            part = records[first - start : end - start]
            yield shard, (first, part.tobytes())


def _find_batch(example, batch_size):
    """Returns the number of the batch and the example."""
    try:
        number, _ = example
    except (TypeError, ValueError):
        number = None
    if not isinstance(number, numbers.Integral) or number < 0:
        raise ValueError(
            "Expected elements `(number, x)`, a position from 0 and the inputs "
            f"of one example. Received: {example!r}"
        )
    return int(number) // batch_size, example


def _check_numbers(examples, start):
    """Returns the examples of a batch as a list, if none is missing."""
    examples = list(examples)
    counts = collections.Counter(int(number) for number, _ in examples)
    for number in range(start, start + len(examples)):
        if counts[number] != 1:
            raise ValueError(
                "Expected one example of each number, from 0 on. Received: "
                f"{counts[number]} examples of number {number}, and others "
                "after it"
            )
    return examples


def _write_shard(shard, begin, path):
    """Writes the records of a shard; returns its number and its note."""
    number, parts = shard
    record = RecordFormat.from_config(_check_equal(begin)).record
    with tempfile.TemporaryDirectory() as folder:
        local = pathlib.Path(folder)
        writer = shards.ShardWriter(local, number, record, worker=0)
        for _, content in sorted(parts):
            writer.write(np.frombuffer(content, record))
        writer.commit()
        note = shards.read_notes(local)[number]
        _place(local / note["file"], path)
    return number, note


def _write_manifest(path, begin, notes):
    """Completes the store; returns its path."""
    config = _check_equal(begin)
    notes = dict(notes)
    examples = sum(note["examples"] for note in notes.values())
    for number, expected in creation.count_shards(examples, config).items():
        received = notes.get(number, {"examples": 0})["examples"]
        if received != expected:
            size = config["examples_per_shard"]
            raise ValueError(
                f"Expected the numbers from 0 to {examples - 1}, one for each "
                f"of the {examples} examples. Received: {received} and not "
                f"{expected} of those from {number * size} to "
                f"{number * size + expected - 1}"
            )
    with tempfile.TemporaryDirectory() as folder:
        manifest = pathlib.Path(folder, shards.MANIFEST)
        shards.write_json(
            manifest, creation.complete(config, examples, notes), worker=0
        )
        _place(manifest, path)
    return path


def _check_equal(begin):
    """Returns what all workers say that the manifest begins with."""
    if not begin:
        raise ValueError("Expected at least one example. Received: none")
    first, *others = map(json.loads, begin)
    for other in others:
        for key, value in first.items():
            if other[key] != value:
                raise ValueError(
                    f"Expected the same `{key}` of all batches and workers. "
                    f"Received: {value!r} and {other[key]!r}"
                )
    return first


def _place(local, path):
    """Copies a file to a folder, where it is seen when it is whole."""
    target = FileSystems.join(path, local.name)
    # A worker that was taken for dead may still write the same.
    temporary = FileSystems.join(path, f".{local.name}.{uuid.uuid4().hex}")
    with FileSystems.create(
        temporary, compression_type=CompressionTypes.UNCOMPRESSED
    ) as file:
        file.write(local.read_bytes())
    FileSystems.rename([temporary], [target])


def _check_path(path):
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            f"Expected `path` to be that of a folder. Received: path={path!r}"
        )
    path = os.fspath(path)
    # A worker may run in another folder.
    return path if "://" in path else os.path.abspath(path)


def _check_teacher(teacher):
    if isinstance(teacher, keras.Model) or not (
        callable(teacher) or isinstance(teacher, (str, os.PathLike))
    ):
        raise ValueError(
            "Expected `teacher` to be the path of a `.keras` file, or a "
            "function without arguments that returns a teacher: each worker "
            'loads its own. Call `teacher.save("teacher.keras")` before. '
            f"Received: teacher={teacher!r}"
        )
    return teacher if callable(teacher) else _check_path(teacher)

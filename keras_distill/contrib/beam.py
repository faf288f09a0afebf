"""Labels a transfer set on many machines with Apache Beam."""

import collections
import json
import numbers
import operator
import os
import pathlib
import tempfile
import uuid

import keras
import numpy as np
import tensorflow as tf

try:
    import apache_beam as beam
except ImportError as error:
    raise ImportError(
        "`keras_distill.contrib.beam` needs Apache Beam: "
        "`pip install 'keras-distill[beam]'`."
    ) from error

from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from keras_distill.data.elements import to_floatx
from keras_distill.store import encoder
from keras_distill.store import shards
from keras_distill.store.example_fingerprints import fingerprint_tensors
from keras_distill.store.records import RecordFormat
from keras_distill.validation import check_integer

__all__ = ["WriteToSoftTargetStore"]

_CONFIG = "config"


class WriteToSoftTargetStore(beam.PTransform):
    """Labels a transfer set with a teacher and writes a `SoftTargetStore`.

    It does the same as `SoftTargetStore.create`, on all runners of Beam:
    Dataflow, Flink, Spark, or the processes of one machine. The same examples
    in the same batches give the same files. Only `create` has `views` and
    `augment`, and can resume after a crash.

    A collection has no order, so each example comes with its number, which is
    its position in the dataset that you pass to `SoftTargetStore.attach`.

    A worker holds one teacher, and one batch or one shard in memory. An
    incomplete store has no manifest, and you can run the pipeline again.

    Example:

    ```python
    import apache_beam as beam
    from keras_distill.contrib.beam import WriteToSoftTargetStore

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
        path: Folder of the store that all workers share, or a cloud, such as
            `"gs://bucket/soft_targets"`. For the training, copy or mount it.
        teacher: Path of a `.keras` file that all workers can read, or a
            function without arguments that returns the teacher, as in
            `Distiller`. Each worker process calls it once.
        top_k: As in `SoftTargetStore.create`.
        dtype: As in `SoftTargetStore.create`.
        temperatures: As in `SoftTargetStore.create`.
        from_logits: As in `SoftTargetStore.create`.
        batch_size: Batch size of the teacher. Defaults to 256.
        examples_per_shard: As in `SoftTargetStore.create`.
        teacher_id: As in `SoftTargetStore.create`.

    Returns:
        A `PCollection` with one element, the path, once the store is complete.
        The input is a bounded `PCollection` of `(number, x)`: an integer from
        0, and the inputs of one example, an array or a structure of arrays.

    Raises:
        ImportError: If Apache Beam or TensorFlow is not installed.
        ValueError: If an argument is invalid, or the folder contains a store.
            While the pipeline runs, if a number is missing or comes twice, soft
            targets cannot be stored, or workers have different teachers.
    """

    def __init__(
        self,
        path,
        teacher,
        top_k=None,
        dtype="float16",
        temperatures=None,
        from_logits=True,
        batch_size=encoder.BATCH_SIZE,
        examples_per_shard=None,
        teacher_id=None,
    ):
        super().__init__()
        self._batch_size = check_integer("batch_size", batch_size, low=1)
        self._path = _check_path(path)
        storage = encoder.Storage(
            top_k=top_k,
            dtype=dtype,
            temperatures=temperatures,
            from_logits=from_logits,
            examples_per_shard=examples_per_shard,
            teacher_id=teacher_id,
        )
        self._encode_batch = _EncodeBatch(
            _check_teacher(teacher), storage.check(), self._batch_size
        )

    def expand(self, examples):
        if not examples.is_bounded:
            raise ValueError(
                "Expected a bounded collection: a store is complete when all "
                f"examples are labelled. Received: {examples}"
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
            >> beam.ParDo(self._encode_batch)
            .with_output_types(tuple[int, tuple[int, bytes]])
            .with_outputs(_CONFIG, main="records")
        )
        configs = beam.pvalue.AsList(
            labelled[_CONFIG] | "CompareWorkers" >> beam.Distinct()
        )
        entries = (
            labelled["records"]
            | "GroupShards" >> beam.GroupByKey()
            | "WriteShard" >> beam.Map(_write_shard, configs, self._path)
        )
        return (
            examples.pipeline
            | "Once" >> beam.Create([self._path])
            | "WriteManifest"
            >> beam.Map(_write_manifest, configs, beam.pvalue.AsList(entries))
        )


class _EncodeBatch(beam.DoFn):
    """Converts a batch of examples to records."""

    def __init__(self, teacher, storage, batch_size):
        super().__init__()
        self._teacher = teacher
        self._storage = storage
        self._batch_size = batch_size
        self._shared = Shared()

    def setup(self):
        # One for all threads of a worker process.
        self._encoder = self._shared.acquire(self._load_encoder)

    def _load_encoder(self):
        if callable(self._teacher):
            return encoder.TargetEncoder(self._teacher(), self._storage)
        with tempfile.TemporaryDirectory() as folder:
            local = pathlib.Path(folder, "teacher.keras")
            with FileSystems.open(self._teacher) as file:
                local.write_bytes(file.read())
            teacher = keras.saving.load_model(local, compile=False)
        return encoder.TargetEncoder(teacher, self._storage)

    def process(self, batch):
        """Yields the first part of the manifest, and parts of shards."""
        number, examples = batch
        start = number * self._batch_size
        inputs = keras.tree.map_structure(
            lambda *arrays: tf.convert_to_tensor(to_floatx(np.stack(arrays))),
            *_sort(examples, start),
        )
        stop = start + len(keras.tree.flatten(inputs)[0])
        # The first batch is full unless it is the only one.
        config = self._encoder.describe(
            inputs, self._batch_size if start else stop
        )
        yield beam.pvalue.TaggedOutput(_CONFIG, json.dumps(config))
        records = self._encoder.encode(
            inputs, fingerprint_tensors(inputs).numpy(), start
        )
        for shard, first, end in shards.split(
            start, stop, config["examples_per_shard"]
        ):
            part = records[first - start : end - start]
            yield shard, (first, part.tobytes())


def _find_batch(example, batch_size: int):
    """Returns the number of the batch, and the example."""
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


def _sort(examples, start: int) -> list:
    """Returns the inputs of a batch in order, if no number is missing."""
    examples = sorted(examples, key=operator.itemgetter(0))
    counts = collections.Counter(number for number, _ in examples)
    for number in range(start, start + len(examples)):
        if counts[number] != 1:
            raise ValueError(
                "Expected one example for each number, from 0 on. Received: "
                f"{counts[number]} examples of number {number}"
            )
    return [keras.tree.lists_to_tuples(x) for _, x in examples]


def _write_shard(shard, configs, path):
    """Writes the records of a shard; returns its number and its entry."""
    number, parts = shard
    config = _check_equal(configs)
    record = RecordFormat.from_config(config).record
    expected = number * config["examples_per_shard"]
    with tempfile.TemporaryDirectory() as folder:
        local = pathlib.Path(folder)
        writer = shards.ShardWriter(local, number, record)
        for first, content in sorted(parts):
            if first != expected:
                raise ValueError(
                    "Expected one example for each number, from 0 on. "
                    f"Received: no example of number {expected}"
                )
            records = np.frombuffer(content, record)
            writer.write(records)
            expected += len(records)
        entry = writer.commit()
        _copy(shards.shard_path(local, number), path)
    return number, entry


def _write_manifest(path, configs, entries):
    """Completes the store; returns its path."""
    config = _check_equal(configs)
    entries = dict(entries)
    examples = sum(entry["examples"] for entry in entries.values())
    for number, expected in shards.count_examples(examples, config).items():
        received = entries.get(number, {"examples": 0})["examples"]
        if received != expected:
            first = number * config["examples_per_shard"]
            raise ValueError(
                f"Expected one example for each number from 0 to "
                f"{examples - 1}. Received: {received} examples instead of "
                f"{expected} for the numbers from {first} to "
                f"{first + expected - 1}"
            )
    with tempfile.TemporaryDirectory() as folder:
        local = pathlib.Path(folder)
        shards.write_manifest(local, config, examples, entries)
        _copy(local / shards.MANIFEST, path)
    return path


def _check_equal(configs) -> dict:
    """Returns the first part of the manifest, if all workers agree."""
    if not configs:
        raise ValueError("Expected at least one example. Received: none")
    first, *others = map(json.loads, configs)
    for other in others:
        for key, value in first.items():
            if other[key] != value:
                raise ValueError(
                    f"Expected the same `{key}` for all batches and workers. "
                    f"Received: {value!r} and {other[key]!r}"
                )
    return first


def _copy(local, path) -> None:
    """Copies a file to a folder, where it appears when it is complete."""
    target = FileSystems.join(path, local.name)
    # Beam may start a second worker while the first one still writes.
    temporary = FileSystems.join(path, f".{local.name}.{uuid.uuid4().hex}")
    with FileSystems.create(temporary) as file:
        file.write(local.read_bytes())
    FileSystems.rename([temporary], [target])


def _check_path(path) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            "Expected `path` to be the path of a folder. Received: "
            f"path={path!r}"
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
            "function without arguments that returns a teacher, because each "
            'worker loads its own. Call `teacher.save("teacher.keras")` first. '
            f"Received: teacher={teacher!r}"
        )
    return teacher if callable(teacher) else _check_path(teacher)

import functools
import itertools
import operator
import os
import pathlib
import time

import keras
import numpy as np

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.teachers.teacher import Teacher
from keras_distill.transfer import creation
from keras_distill.transfer import shards
from keras_distill.transfer.paired_batches import PairedBatches
from keras_distill.transfer.recording import BATCH_SIZE
from keras_distill.transfer.recording import Recording
from keras_distill.transfer.recording import check_storage
from keras_distill.transfer.records import RecordFormat
from keras_distill.transfer.records import get_fingerprints
from keras_distill.validation import check_choice
from keras_distill.validation import check_integer
from keras_distill.validation import shapes_agree

_CHECKS = ("all", "sample")
# What a pipeline is given, in fewer calls than batches.
_EXAMPLES_AT_ONCE = 4096
_BYTES_AT_ONCE = 2**24
# Shards that are kept in memory while they are read one after another.
_SHARDS_IN_MEMORY = 2
# Shards that are kept open where they are not. Each is two open files, of which
# a process may have a thousand.
_SHARDS_OPEN = 128


class SoftTargetStore:
    """A teacher's soft targets on disk: labelled once, trained on many times.

    `create` runs a teacher over a transfer set of any size and writes its
    logits, in constant memory. `attach` joins them to the transfer set again,
    as the dataset that `Distiller.fit` takes: no teacher is needed any more,
    and an epoch costs what training the student alone costs.

    Soft targets belong to their inputs. Each record has a fingerprint of its
    input, and `attach` compares while it streams. So the transfer set has to
    come in the same order as in `create`; shuffle it after `attach`.

    `create` may be killed at any moment. The same call goes on after the last
    complete shard, and ends with the same bytes. Several processes share the
    work with `shard=(i, n)`.

    Example:

    ```python
    import keras
    import keras_distill
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((x, y))

    store = keras_distill.SoftTargetStore.create(
        "soft_targets/", teacher, dataset
    )

    # In another process, on another day.
    store = keras_distill.SoftTargetStore("soft_targets/")
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    distiller.fit(store.attach(dataset).shuffle(1000).batch(32), epochs=2)
    ```

    A store of 50,000 classes keeps the largest logits alone (see
    `TopKTargets` for what the loss makes of them):

    ```python
    store = keras_distill.SoftTargetStore.create(
        "top_k/", teacher, dataset, top_k=5, temperatures=(2.0,)
    )
    ```

    Every epoch may see the inputs augmented in another way, if the function
    can repeat it. Teacher and student then see the same crop (Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", 2022):

    ```python
    def add_noise(x, seed):
        return x + tf.random.stateless_normal(x.shape, seed, stddev=0.1)

    store = keras_distill.SoftTargetStore.create(
        "views/", teacher, dataset, views=3, augment=add_noise
    )
    distiller.fit(
        store.attach(dataset, batch_size=32, augment=add_noise), epochs=6
    )
    ```

    Args:
        path: Folder of a store that is complete.

    Raises:
        ValueError: If there is no complete store, or it is of a newer format.
    """

    def __init__(self, path):
        self.path = _check_path(path)
        self._manifest = _read_manifest(self.path)
        self._format = RecordFormat.from_config(self._manifest)
        self._read = functools.lru_cache(maxsize=_SHARDS_IN_MEMORY)(
            self._read_shard
        )
        self._map = functools.lru_cache(maxsize=_SHARDS_OPEN)(self._map_shard)

    @classmethod
    def create(
        cls,
        path,
        teacher,
        dataset,
        top_k=None,
        dtype="float16",
        temperatures=None,
        from_logits=True,
        batch_size=None,
        views=1,
        augment=None,
        seed=0,
        shard=(0, 1),
        examples_per_shard=None,
        verbose="auto",
    ):
        """Labels a transfer set and writes the soft targets.

        The folder has one `manifest.json` and a TFRecord file for every 16,384
        examples or 64 MiB. An example of C classes takes `2 * C + 8` bytes, in
        float32 `4 * C + 4`. With `top_k=k` it takes 4 bytes for each of the k
        (in float16, with 257 to 65,536 classes), 4 for each temperature, and 4
        for the fingerprint of the input.

        Args:
            path: Folder of the store. Where it holds one that was begun with
                the same arguments, the work goes on: the inputs of what is
                there are compared, and not labelled again. So it is with one
                that is complete.
            teacher: As in `Distiller`: a `keras.Model`, a callable, a list.
            dataset: The transfer set: a `tf.data.Dataset` of batches or of
                single examples, a `keras.utils.PyDataset` or generator of
                batches; their elements are `x`, `(x, y)` or
                `(x, y, sample_weight)`. Or arrays: `x`, or a tuple of these.
            top_k: Number of logits to keep of each output, or `None` (the
                default) for all.
            dtype: `"float16"` (the default) or `"float32"`. Logits are kept as
                differences to the largest one, so half precision has three
                digits of these; a difference above 65504 is refused.
            temperatures: Tuple of the temperatures that the losses may have:
                with `top_k`, by default `(1.0, 4.0)`; for a teacher that is an
                `Ensemble` with an arithmetic mean (or a list), exactly one.
                Everything else serves all temperatures, and this is `None`.
            from_logits: Whether the teacher outputs logits (`True`, the
                default), or probabilities in a way that can not be recognised:
                then their logarithm is stored.
            batch_size: Of the teacher, for arrays and single examples. Defaults
                to 256.
            views: Number of versions of each example. Defaults to 1.
            augment: Function `(x, seed) -> x` of TensorFlow operations that
                augments the inputs of one example. The `seed`, an integer
                tensor of shape `(2,)` as `tf.random.stateless_uniform` takes
                it, decides on all that is random. Needs single examples or
                arrays. Defaults to `None`.
            seed: Integer that the seeds of all views follow from. Defaults
                to 0.
            shard: Tuple `(i, n)`: this process is worker i, from 0, of n that
                write one store. Each goes through the whole dataset and labels
                its part. Defaults to `(0, 1)`.
            examples_per_shard: Number of examples in a file, which is also
                what a crash may cost. Defaults to `None`: as above, in whole
                batches.
            verbose: `"auto"`, 0 for silence, 1 for a progress bar, or 2 for
                one line at the end.

        Returns:
            The `SoftTargetStore`, or `None` where other workers still have to
            write their parts.

        Raises:
            ValueError: If an argument is not of the kind above, the soft
                targets are not finite or too large for `dtype`, or the store
                was begun with other arguments, another teacher or other data.
            RuntimeError: If another process creates the same.
            OSError: If a file can not be written, such as on a full disk.
        """
        # TensorFlow feeds the teacher, also on other backends.
        pipelines = _import_pipelines()
        folder = _check_path(path)
        worker, workers = _check_shard(shard)
        top_k, examples_per_shard = check_storage(
            top_k, dtype, examples_per_shard
        )
        views, seed = _check_views(views, augment, seed)
        recording = Recording(teacher, top_k, dtype, temperatures, from_logits)
        examples = pipelines.to_examples(
            dataset,
            batch_size,
            recording.teacher.input_ranks(),
            augment,
            BATCH_SIZE,
        )
        folder.mkdir(parents=True, exist_ok=True)
        with creation.lock(folder, worker, workers):
            batches = _list_batches(
                examples, batch_size or BATCH_SIZE, views, augment, seed
            )
            # A batch of none tells nothing about the teacher.
            first = next((each for each in batches if len(each[1])), None)
            if first is None:
                raise ValueError(
                    "Expected at least one example. "
                    f"Received: dataset={dataset!r}"
                )
            first_inputs, first_fingerprints = first
            count_first = len(first_fingerprints)
            format = recording.inspect(first_inputs)
            begun = creation.read_manifest(folder)
            plan = creation.Plan(
                folder,
                format,
                recording.describe(
                    format,
                    pipelines.describe_inputs(first_inputs, batched=True),
                    examples_per_shard or begun.get("examples_per_shard"),
                    count_first,
                    views,
                    None if augment is None else seed,
                    workers,
                ),
                worker,
            )
            if workers > 1 and plan.config["examples_per_shard"] < count_first:
                raise ValueError(
                    "Expected `examples_per_shard` to be at least the size of "
                    f"a batch, {count_first}, where several workers share the "
                    "work: a batch is labelled as a whole. Received: "
                    f"examples_per_shard={plan.config['examples_per_shard']}"
                )
            creation.begin(plan)
            progress = _Progress(examples.count(count_first), views, verbose)
            count = creation.label(
                plan,
                itertools.chain([first], batches),
                recording.predict,
                progress.show,
            )
            progress.end(count)
            if not creation.finish(plan, count):
                return None
        return cls(folder)

    def attach(
        self,
        dataset,
        batch_size=None,
        augment=None,
        teacher=None,
        check="all",
        initial_epoch=0,
    ):
        """Joins the soft targets to their transfer set.

        Example:

        ```python
        store = keras_distill.SoftTargetStore.create("all/", teacher, (x, y))
        distiller.fit(store.attach((x, y), batch_size=32), epochs=2)
        ```

        Args:
            dataset: The transfer set, as in `create`, in the same order. It
                may have other labels and batches, or end sooner.
            batch_size: Integer. Makes batches of single examples. Defaults to
                `None`: single examples stay single, so that they can be
                shuffled, and arrays come in batches of 32.
            augment: The function that `create` was given. Each pass through
                the result shows the next view, if it goes to the end: one that
                `take` cuts short shows the same view again.
            teacher: A teacher, to make sure that the store is its. Defaults to
                `None`.
            check: `"all"` (the default) compares the fingerprint of every
                input, `"sample"` that of the first in each batch.
            initial_epoch: Integer, as in `fit`, of a training that is resumed:
                it begins with the view of that epoch. Defaults to 0.

        Returns:
            A `tf.data.Dataset`, or on other backends than TensorFlow, for
            arrays and for a `keras.utils.PyDataset` of batches of the same
            size, a `keras.utils.PyDataset`. Its elements are `(x, y)` or
            `(x, y, sample_weight)`, where `y` is the dict
            `{"labels": ..., "soft_targets": ...}` that `Distiller.fit` takes,
            without `"labels"` where there are none.

        Raises:
            ValueError: If the inputs have another shape or dtype, the teacher
                is another one, or an argument is not of the kind above.
            tf.errors.InvalidArgumentError: While it streams (`ValueError` of a
                `PyDataset`), with the number of the example, if an input is
                not the one that was labelled, if there are more examples than
                in the store, or a file is damaged. `Distiller.fit` makes it a
                `ValueError`.
        """
        check_choice("check", check, _CHECKS)
        initial_epoch = check_integer("initial_epoch", initial_epoch, low=0)
        self._check_augment(augment)
        if teacher is not None:
            self._check_teacher(teacher)
        decoded = self._format.decode(np.zeros(1, self._format.record))
        compared = None if check == "all" else 1
        if (
            USES_TF_DATA
            or is_tf_dataset(dataset)
            or self._manifest["seed"] is not None
        ):
            return self._attach_pipeline(
                dataset, batch_size, augment, decoded, compared, initial_epoch
            )
        paired = PairedBatches(
            dataset, batch_size, self._find_exactly, decoded, compared
        )
        self._check_inputs(paired.inputs)
        return paired

    def _attach_pipeline(
        self, dataset, batch_size, augment, decoded, compared, initial_epoch
    ):
        """Joins the soft targets to a `tf.data` pipeline."""
        pipelines = _import_pipelines()
        examples = pipelines.to_examples(
            dataset,
            batch_size,
            [len(each["shape"]) + 1 for each in self._manifest["inputs"]],
            augment,
        )

        def one_pass(view, end=None):
            pass_ = examples
            if augment is not None:
                pass_ = pipelines.replay(
                    examples, augment, self._manifest["seed"], view
                )
            return pipelines.pair(
                pass_, view, self._find, decoded, compared, end
            )

        views = self._manifest["views"]
        whole = one_pass(0)
        self._check_inputs(
            pipelines.describe_inputs(
                whole.element_spec[0].inputs,
                examples.batched or examples.batch_size,
            )
        )
        if views == 1:
            return pipelines.read_ahead(whole)
        length = int(whole.cardinality())
        return pipelines.walk_through(
            views, initial_epoch, one_pass, length if length >= 0 else None
        )

    def __len__(self):
        """Number of records: of examples, times that of views."""
        return self._manifest["examples"] * self._manifest["views"]

    def __getitem__(self, key):
        """Returns soft targets as NumPy arrays.

        Args:
            key: Integer for those of one example, without the axis of the
                batch, or slice. Those of view v begin at `v * examples`.

        Returns:
            Float32 array of logits in the shape of the teacher's output, or
            `TopKTargets`; in the structure of the outputs if there are several.
        """
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step < 0:
                raise IndexError(
                    f"Expected a slice with a positive step. Received: {key}"
                )
            return self._format.decode(self._slice(start, stop)[::step])
        position = operator.index(key)
        if not -len(self) <= position < len(self):
            raise IndexError(
                f"The store has {len(self)} records. Received: {key}"
            )
        position %= len(self)
        (record,) = self._slice(position, position + 1, self._map)
        return self._format.decode(record)

    def info(self):
        """Returns what the store holds, as a dict.

        Returns:
            Dict with `path`, `examples`, `views`, `shapes` (of each output),
            `dtype`, `top_k`, `temperatures` (`None` where it serves all),
            `bytes` and `bytes_per_record` (of all files), `shards` (their
            number), `inputs`, `teacher` (its fingerprint, or `None` of a
            callable), `seed` and `format_version`.
        """
        kept = (
            "examples",
            "views",
            "shapes",
            "dtype",
            "top_k",
            "temperatures",
            "inputs",
            "teacher",
            "seed",
            "format_version",
        )
        size = sum(shard["bytes"] for shard in self._manifest["shards"])
        size += (self.path / shards.MANIFEST).stat().st_size
        return {
            "path": str(self.path),
            **{key: self._manifest[key] for key in kept},
            "bytes": size,
            "bytes_per_record": size / len(self),
            "shards": len(self._manifest["shards"]),
        }

    def __repr__(self):
        return (
            f"<SoftTargetStore path={str(self.path)!r}, "
            f"examples={self._manifest['examples']}>"
        )

    def __reduce__(self):
        # Opened anew, without the shards that are in memory here.
        return type(self), (self.path,)

    def _read_shard(self, number):
        return shards.read_shard(
            self.path, self._manifest["shards"][number], self._format.record
        )

    def _map_shard(self, number):
        return shards.MappedShard(
            self.path, self._manifest["shards"][number], self._format.record
        )

    def _slice(self, start, stop, read=None):
        """Returns the records from `start` to before `stop`."""
        read = read or self._read
        size = self._manifest["examples_per_shard"]
        parts = [
            read(number)[max(start - number * size, 0) : stop - number * size]
            for number in range(start // size, -(-stop // size))
        ]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty(0, self._format.record), *parts])

    def _find(self, view, position, count):
        """Returns fingerprints and soft targets, `count` or more of them."""
        examples = self._manifest["examples"]
        fitting = _BYTES_AT_ONCE // self._format.record.itemsize
        at_once = max(count, min(fitting, _EXAMPLES_AT_ONCE))
        stop = min(position + at_once, examples)
        first = view * examples
        self._check_count(position + count)
        return self._decode(first + position, first + stop)

    def _find_exactly(self, position, count):
        """Returns fingerprints and soft targets, `count` of them."""
        self._check_count(position + count)
        return self._decode(position, position + count, self._map)

    def _check_count(self, count):
        examples = self._manifest["examples"]
        if count > examples:
            raise shards.StoreError(
                f"The dataset has more examples than the store {self.path}, "
                f"which holds {examples}."
            )

    def _decode(self, start, stop, read=None):
        records = self._slice(int(start), int(stop), read)
        return [
            get_fingerprints(records),
            *keras.tree.flatten(self._format.decode(records)),
        ]

    def _check_augment(self, augment):
        augmented = self._manifest["seed"] is not None
        if augmented != (augment is not None):
            raise ValueError(
                "Expected the `augment` that the store was created with, "
                f"{'a function' if augmented else 'None'}. "
                f"Received: augment={augment!r}"
            )

    def _check_teacher(self, teacher):
        fingerprint = Teacher(teacher).fingerprint()
        if fingerprint is None:
            raise ValueError(
                "Expected `teacher` to be a Keras model: of a function nobody "
                "can tell what it depends on. "
                f"Received: teacher={teacher!r}"
            )
        if fingerprint != self._manifest["teacher"]:
            raise ValueError(
                "The soft targets were made by another teacher: its "
                f"architecture and weights are {self._manifest['teacher']!r}. "
                f"Received: teacher with {fingerprint!r}"
            )

    def _check_inputs(self, received):
        expected = self._manifest["inputs"]
        if len(received) != len(expected) or not all(
            ours["dtype"] == theirs["dtype"]
            and (
                ours["shape"] is None
                or shapes_agree(ours["shape"], theirs["shape"])
            )
            for ours, theirs in zip(received, expected, strict=False)
        ):
            raise ValueError(
                "Expected inputs like those that were labelled: "
                f"{expected} without the batch. Received: {received}"
            )


def _import_pipelines():
    try:
        from keras_distill.transfer import pipelines
    except ImportError as error:
        raise ImportError(
            "To create a `SoftTargetStore`, or to attach one with `augment`, "
            "needs TensorFlow: `pip install tensorflow`. To read one does not."
        ) from error
    return pipelines


class _Progress:
    """Shows how many examples are labelled, as Keras shows its progress."""

    def __init__(self, examples, views, verbose):
        self._bar = keras.utils.Progbar(
            examples and examples * views,
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


def _read_manifest(folder):
    manifest = creation.read_manifest(folder)
    if not manifest:
        raise ValueError(
            "Expected the folder of a `SoftTargetStore`, made by "
            f"`SoftTargetStore.create`. Received: path={str(folder)!r}"
        )
    version = manifest.get("format_version")
    if version != shards.FORMAT_VERSION:
        raise ValueError(
            f"The store {folder} is of format {version}; this version of "
            f"keras_distill reads format {shards.FORMAT_VERSION}."
        )
    if "shards" not in manifest:
        raise ValueError(
            f"The store {folder} is not complete. Call "
            "`SoftTargetStore.create` as before, and it goes on with it."
        )
    return manifest


def _list_batches(examples, batch_size, views, augment, seed):
    """Yields inputs and fingerprints of each batch, view after view."""
    pipelines = _import_pipelines()
    for view in range(views):
        replayed = examples
        if augment is not None:
            replayed = pipelines.replay(examples, augment, seed, view)
        yield from pipelines.list_inputs(replayed, batch_size)


def _check_path(path):
    """Returns an absolute path."""
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            "Expected `path` to be that of a folder; the teacher and the "
            f"dataset come after it. Received: path={path!r}"
        )
    if "://" in str(path):
        raise ValueError(
            "Expected `path` to be a folder of this machine, or one that is "
            f"mounted. Received: path={str(path)!r}"
        )
    return pathlib.Path(path).resolve()


def _check_shard(shard):
    """Returns the number of a worker, and of all workers."""
    if not isinstance(shard, (list, tuple)) or len(shard) != 2:
        raise ValueError(
            "Expected `shard` to be a tuple `(i, n)`: worker i of n. "
            f"Received: shard={shard!r}"
        )
    workers = check_integer("shard[1]", shard[1], low=1)
    return check_integer("shard[0]", shard[0], low=0, high=workers - 1), workers


def _check_views(views, augment, seed):
    """Returns `views` and `seed`, as JSON holds them."""
    views = check_integer("views", views, low=1)
    seed = check_integer("seed", seed, low=0)
    if augment is not None and not callable(augment):
        raise ValueError(
            "Expected `augment` to be a function `(x, seed) -> x`. "
            f"Received: augment={augment!r}"
        )
    if views > 1 and augment is None:
        raise ValueError(
            "Several `views` need an `augment`, a function `(x, seed) -> x`: "
            f"else they are all alike. Received: views={views}, augment=None"
        )
    return views, seed

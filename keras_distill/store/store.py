import functools
import itertools
import operator
import os
import pathlib

import keras
import numpy as np

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.data.elements import describe_inputs
from keras_distill.store import creation
from keras_distill.store import shards
from keras_distill.store.encoder import TargetEncoder
from keras_distill.store.encoder import check_storage
from keras_distill.store.paired_batches import PairedBatches
from keras_distill.store.records import RecordFormat
from keras_distill.store.records import get_fingerprints
from keras_distill.store.transfer_set import TransferSet
from keras_distill.teachers.teacher import Teacher
from keras_distill.validation import check_choice
from keras_distill.validation import check_integer
from keras_distill.validation import shapes_agree

_CHECKS = ("all", "sample")
# The properties of a store that are in its manifest.
_PROPERTIES = (
    *("examples", "views", "shapes", "dtype", "top_k", "temperatures"),
    *("inputs", "teacher", "seed", "format_version"),
)
# A pipeline gets several batches at once, to call Python less often.
_EXAMPLES_AT_ONCE = 4096
_BYTES_AT_ONCE = 2**24
# The number of shards that are mapped into memory.
_SHARDS_OPEN = 16


class SoftTargetStore:
    """A teacher's soft targets on disk, computed once and used many times.

    `create` runs a teacher over a transfer set of any size and writes its
    logits, in constant memory. `attach` joins them to the transfer set, as a
    dataset for `Distiller.fit`. The training then needs no teacher, and an
    epoch costs the same as training the student alone.

    Soft targets belong to their inputs. Each record has a fingerprint of its
    input, and `attach` compares it. The transfer set has to come in the same
    order as in `create`. Shuffle it after `attach`.

    `create` can be killed at any moment. The same call continues after the last
    complete shard and ends with the same bytes. Several processes share the
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
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    distiller.fit(store.attach(dataset).shuffle(1000).batch(32), epochs=2)
    ```

    For thousands of classes, a store can keep only the largest logits (see
    `TopKTargets`):

    ```python
    store = keras_distill.SoftTargetStore.create(
        "top_k/", teacher, dataset, top_k=5, temperatures=(2.0,)
    )
    ```

    Every epoch can see a different augmentation, which teacher and student
    share: see `views` and `augment` in `create` (Beyer et al., "Knowledge
    distillation: A good teacher is patient and consistent", 2022).

    Args:
        path: Folder of a complete store.

    Raises:
        ValueError: If there is no complete store, or its format is newer.
    """

    def __init__(self, path):
        self.path = _check_path(path)
        self._manifest = _read_manifest(self.path)
        self._format = RecordFormat.from_config(self._manifest)
        self._verified: set[int] = set()
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

        The folder contains a `manifest.json` and an `.npy` file for every
        16,384 examples or 64 MiB. An example of C classes takes `2 * C + 8`
        bytes, in float32 `4 * C + 4`. With `top_k=k` it takes 4 bytes for each
        of the k (in float16, with 257 to 65,536 classes), 4 for each
        temperature, and 4 for the fingerprint of the input.

        Args:
            path: Folder of the store. If it contains a store that was begun
                with the same arguments, the work continues: the inputs of
                existing shards are compared, and not labelled again.
            teacher: As in `Distiller`: a `keras.Model`, a callable, a list.
            dataset: The transfer set: arrays, a `tf.data.Dataset` of batches or
                single examples, or a `keras.utils.PyDataset` or generator of
                batches. It contains `x`, `(x, y)` or `(x, y, sample_weight)`.
                A list of arrays is several inputs.
            top_k: Number of logits to keep of each output, or `None` (the
                default) for all.
            dtype: `"float16"` (the default) or `"float32"`. With float16, a
                logit is stored as the difference to the largest one, with
                three digits. A difference above 65504 raises an error. With
                `top_k` it is stored as 65504 instead.
            temperatures: Tuple of the temperatures that losses can use. With
                `top_k` it defaults to `(1.0, 4.0)`. For a teacher that is an
                `Ensemble` with an arithmetic mean (or a list) it has exactly
                one. Otherwise the store serves all temperatures, and this is
                `None`.
            from_logits: Whether the teacher outputs logits (`True`, the
                default) or probabilities that cannot be recognized. Their
                logarithm is stored.
            batch_size: Batch size of the teacher, for arrays and single
                examples. Defaults to 256.
            views: Number of versions of each example. Defaults to 1.
            augment: Function `(x, seed) -> x` of TensorFlow operations that
                augments the inputs of one example. All randomness has to come
                from `seed`, an integer tensor of shape `(2,)` for
                `tf.random.stateless_uniform`. It needs single examples or
                arrays. Defaults to `None`.
            seed: Integer. The seeds of all views derive from it. Defaults to 0.
            shard: Tuple `(i, n)`: this process is worker i, from 0, of n that
                write one store. Each goes through the whole dataset and labels
                its part. Defaults to `(0, 1)`.
            examples_per_shard: Number of examples in a file, which is also the
                most that a crash costs. Defaults to `None`: as above, in whole
                batches.
            verbose: `"auto"`, 0 for silence, 1 for a progress bar, or 2 for
                one line at the end.

        Returns:
            The `SoftTargetStore`, or `None` if other workers still have to
            write their parts.

        Raises:
            ValueError: If an argument is not of the kind above, the soft
                targets are not finite or too large for `dtype`, or the store
                was begun with other arguments, another teacher or other data.
            RuntimeError: If another process creates the same store.
            OSError: If a file cannot be written.
        """
        folder = _check_path(path)
        worker, workers = creation.check_shard(shard)
        top_k, examples_per_shard = check_storage(
            top_k, dtype, examples_per_shard
        )
        views, seed = creation.check_views(views, augment, seed)
        encoder = TargetEncoder(
            teacher, top_k, dtype, temperatures, from_logits
        )
        ranks = encoder.teacher.input_ranks()
        transfer_set = TransferSet(
            dataset, batch_size, ranks, views, augment, seed
        )
        folder.mkdir(parents=True, exist_ok=True)
        with creation.lock(folder, worker, workers):
            batches = iter(transfer_set)
            # An empty batch does not show the shape of the outputs.
            first = next((batch for batch in batches if len(batch[1])), None)
            if first is None:
                raise ValueError(
                    "Expected at least one example. "
                    f"Received: dataset={dataset!r}"
                )
            inputs, fingerprints = first
            format = encoder.inspect(inputs)
            begun = creation.read_manifest(folder)
            config = encoder.describe(
                format,
                describe_inputs(inputs, batched=True),
                examples_per_shard or begun.get("examples_per_shard"),
                len(fingerprints),
                views,
                None if augment is None else seed,
                workers,
            )
            creation.check_shard_size(config, len(fingerprints))
            job = creation.Job(folder, format, config, worker)
            creation.begin(job)
            progress = creation.Progress(
                transfer_set.count(len(fingerprints)), verbose
            )
            count = creation.label(
                job,
                itertools.chain([first], batches),
                encoder.predict,
                progress.show,
            )
            progress.end(count)
            if not creation.finish(job, count):
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
            dataset: The transfer set, as in `create`, in the same order. It can
                have other labels and batches, and it can be shorter.
            batch_size: Integer. Makes batches of single examples. Defaults to
                `None`: single examples stay single, so that they can be
                shuffled, and arrays come in batches of 32.
            augment: The function that `create` got. Each pass through the
                result shows the next view, if the pass goes to the end. After a
                pass that `take` cuts short, the same view comes again.
            teacher: The teacher that made the store, as a check, or `None`.
            check: `"all"` (the default) compares the fingerprint of every
                input, `"sample"` the fingerprint of the first in each batch.
            initial_epoch: Integer, as in `fit`, for a training that is resumed:
                it begins with the view of that epoch. Defaults to 0.

        Returns:
            A `tf.data.Dataset`. On other backends than TensorFlow, arrays and a
            `keras.utils.PyDataset` of batches of the same size become a
            `keras.utils.PyDataset`. The elements are
            `(WithSoftTargets(x, soft_targets), y)`, with sample weights if
            there are any, and without `y` if there are no labels.

        Raises:
            ValueError: If the inputs have another shape or dtype, the teacher
                is another one, or an argument is not of the kind above.
            tf.errors.InvalidArgumentError: While it streams (`ValueError` for a
                `PyDataset`), with the number of the example: if an input is
                not the one that was labelled, if there are more examples than
                in the store, or if a file is damaged.
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
            from keras_distill.store import joining

            joined, inputs = joining.join_pipeline(
                dataset,
                batch_size,
                [len(each["shape"]) + 1 for each in self._manifest["inputs"]],
                augment,
                self._manifest["seed"],
                self._manifest["views"],
                initial_epoch,
                self._find,
                decoded,
                compared,
            )
            self._check_inputs(inputs)
            return joined
        paired = PairedBatches(
            dataset, batch_size, self._find_exactly, decoded, compared
        )
        self._check_inputs(paired.inputs)
        return paired

    def __len__(self):
        """Number of records: of examples, times the number of views."""
        return self._manifest["examples"] * self._manifest["views"]

    def __getitem__(self, key):
        """Returns soft targets as NumPy arrays.

        Args:
            key: Integer, for one example without the axis of the batch, or
                slice. Those of view v begin at `v * examples`.

        Returns:
            Float32 array of logits in the shape of the teacher's output, or
            `TopKTargets` or `EnsembleTargets`; in the structure of the outputs.
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
        (record,) = self._slice(position, position + 1)
        return self._format.decode(record)

    def info(self):
        """Returns the properties of the store as a dict.

        Returns:
            Dict with `path`, `examples`, `views`, `shapes` (of each output),
            `dtype`, `top_k`, `temperatures` (`None` for all), `bytes` and
            `bytes_per_record` (of all files), `shards` (their number),
            `inputs`, `teacher` (its fingerprint, or `None` for a callable),
            `seed` and `format_version`.
        """
        size = sum(shard["bytes"] for shard in self._manifest["shards"])
        size += (self.path / shards.MANIFEST).stat().st_size
        return {
            "path": str(self.path),
            **{key: self._manifest[key] for key in _PROPERTIES},
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
        # It is opened again, without mapped shards.
        return type(self), (self.path,)

    def _map_shard(self, number):
        """Returns the records of a shard, which is verified the first time."""
        records = shards.map_shard(
            self.path,
            self._manifest["shards"][number],
            self._format.record,
            verify=number not in self._verified,
        )
        self._verified.add(number)
        return records

    def _slice(self, start, stop):
        """Returns the records from `start` to before `stop`."""
        size = self._manifest["examples_per_shard"]
        parts = [
            self._map(number)[
                max(start - number * size, 0) : stop - number * size
            ]
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
        return self._decode(position, position + count)

    def _check_count(self, count):
        if count > self._manifest["examples"]:
            raise shards.StoreError(
                f"The dataset has more examples than the store {self.path}, "
                f"which has {self._manifest['examples']}."
            )

    def _decode(self, start, stop):
        records = self._slice(int(start), int(stop))
        return [
            np.array(get_fingerprints(records)),
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
                "Expected `teacher` to be a Keras model: a function has no "
                f"fingerprint. Received: teacher={teacher!r}"
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
            f"The store {folder} has format {version}. This version of "
            f"keras_distill reads format {shards.FORMAT_VERSION}."
        )
    if "shards" not in manifest:
        raise ValueError(
            f"The store {folder} is not complete. Call "
            "`SoftTargetStore.create` with the same arguments to continue."
        )
    return manifest


def _check_path(path):
    """Returns an absolute path."""
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            "Expected `path` to be the path of a folder; the teacher and the "
            f"dataset come after it. Received: path={path!r}"
        )
    if "://" in str(path):
        raise ValueError(
            "Expected `path` to be a folder of this machine, or a mounted "
            f"one. Received: path={str(path)!r}"
        )
    return pathlib.Path(path).resolve()

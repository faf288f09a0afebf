import os
import pathlib

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.store import shards
from keras_distill.store.creation import create_store
from keras_distill.store.encoder import Storage
from keras_distill.store.encoder import TargetEncoder
from keras_distill.store.encoder import check_teacher_id
from keras_distill.store.paired_batches import PairedBatches
from keras_distill.store.reader import StoreReader
from keras_distill.store.transfer_set import TransferSet
from keras_distill.store.transfer_set import import_joining
from keras_distill.teachers.teacher import Teacher
from keras_distill.validation import check_choice
from keras_distill.validation import check_integer

# The properties of a store that are in its manifest.
_PROPERTIES = (
    *("examples", "views", "shapes", "dtype", "top_k", "temperatures"),
    *("inputs", "teacher", "teacher_id", "seed", "format_version"),
)


class SoftTargetStore:
    """A teacher's soft targets on disk, computed once and used many times.

    `create` runs a teacher over a transfer set of any size and writes its
    logits, in constant memory. `attach` joins them to the transfer set, as a
    dataset for `Distiller.fit`. The training then needs no teacher, and an
    epoch costs little more than training the student alone.

    Each record has a fingerprint of its input, and `attach` compares it. Pass
    the transfer set in the same order as to `create`, and shuffle it after
    `attach`.

    `create` can be killed at any moment. The same call continues after the last
    complete shard and ends with the same bytes.

    Example:

    ```python
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(x)
    store = keras_distill.SoftTargetStore.create(
        "soft_targets/", teacher, dataset
    )
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("adam")
    distiller.fit(store.attach(dataset).shuffle(1000).batch(32), epochs=2)
    ```

    For thousands of classes, a store can keep only the largest logits: see
    `top_k` in `create`. Every epoch can see a different augmentation, which
    teacher and student share: see `views` and `augment` (Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", 2022).

    Args:
        path: Folder of a complete store.

    Raises:
        ValueError: If there is no complete store, or its format is different.
    """

    def __init__(self, path):
        self._reader = StoreReader(_check_path(path))

    @property
    def path(self):
        """The folder of the store, an absolute `pathlib.Path`."""
        return self._reader.path

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
        teacher_id=None,
    ):
        """Labels a transfer set and writes the soft targets.

        The folder contains a `manifest.json` and an `.npy` file for every
        16,384 examples or 64 MiB. An example of C classes takes `2 * C + 8`
        bytes, in float32 `4 * C + 4`, and with `top_k=k` about `4 * k`.

        Args:
            path: Folder of the store. A store that was begun there with the
                same arguments is continued: the inputs of existing shards are
                compared and not labelled again.
            teacher: As in `Distiller`: a `keras.Model`, a callable, a list.
            dataset: The transfer set: arrays, a `tf.data.Dataset` of batches or
                single examples, or a `keras.utils.PyDataset` or generator of
                batches. It contains `x`, `(x, y)` or `(x, y, sample_weight)`.
                A list of arrays means several inputs.
            top_k: Number of logits to keep of each output, or `None` (the
                default) for all.
            dtype: `"float16"` (the default) or `"float32"`. In float16, a logit
                is its difference to the largest one, with three digits. A
                difference above 65504 raises an error, or becomes 65504 with
                `top_k`.
            temperatures: Tuple of the temperatures that losses can use. With
                `top_k` it defaults to `(1.0, 4.0)`. An `Ensemble` with an
                arithmetic mean (or a list) needs exactly one. Otherwise the
                store serves all temperatures, and this is `None`.
            from_logits: Whether the teacher outputs logits (`True`, the
                default) or probabilities that cannot be recognized.
            batch_size: Batch size of the teacher, for arrays and single
                examples. Defaults to 256.
            views: Number of versions of each example. Defaults to 1.
            augment: Function `(x, seed) -> x` of TensorFlow operations that
                augments the inputs of one example, for arrays and single
                examples. All randomness has to come from `seed`, for example in
                `tf.random.stateless_uniform`. Defaults to `None`.
            seed: Integer. The seeds of all views derive from it. Defaults to 0.
            shard: Tuple `(i, n)`: this process is worker i, from 0, of n that
                write one store. Each worker reads the whole dataset and labels
                its part. Defaults to `(0, 1)`.
            examples_per_shard: Number of examples in a file, and the most that
                a crash costs. Defaults to `None`: as above, in whole batches.
            verbose: `"auto"`, 0 for silence, 1 for a progress bar, or 2 for
                one line at the end.
            teacher_id: Name of the teacher, which must change if the teacher
                changes. It is compared instead of the fingerprint. Required if
                the teacher contains Python code: a function, a `Lambda` layer,
                a subclass of a Keras class. Defaults to `None`: the fingerprint
                of configuration, weights and other saved state.

        Returns:
            The `SoftTargetStore`, or `None` if other workers still have to
            write their parts.

        Raises:
            ImportError: If TensorFlow is missing for `augment`, or `pyfarmhash`
                for another backend.
            ValueError: If an argument is invalid, the soft targets are not
                finite or too large for `dtype`, or the store was begun with
                different arguments, teacher or data.
            RuntimeError: If another process creates the same store.
            OSError: If a file cannot be written.
        """
        folder = _check_path(path)
        storage = Storage(
            top_k=top_k,
            dtype=dtype,
            temperatures=temperatures,
            from_logits=from_logits,
            examples_per_shard=examples_per_shard,
            teacher_id=teacher_id,
        )
        encoder = TargetEncoder(teacher, storage.check())
        ranks = encoder.teacher.input_ranks()
        transfer_set = TransferSet(
            dataset, batch_size, views, augment, seed, ranks
        )
        if create_store(folder, encoder, transfer_set, shard, verbose):
            return cls(folder)
        return None

    def attach(
        self,
        dataset,
        batch_size=None,
        augment=None,
        teacher=None,
        check="all",
        initial_epoch=0,
        teacher_id=None,
    ):
        """Joins the soft targets to their transfer set.

        Example:

        ```python
        store = keras_distill.SoftTargetStore.create("all/", teacher, (x, y))
        distiller.fit(store.attach((x, y), batch_size=32), epochs=2)
        ```

        Args:
            dataset: The transfer set, as in `create`, in the same order. It can
                have different labels and batches, and it can be shorter.
            batch_size: Integer. Makes batches of single examples. Defaults to
                `None`: single examples stay single, so that they can be
                shuffled, and arrays come in batches of 32.
            augment: The function that `create` got. Each complete pass through
                the result shows the next view.
            teacher: The teacher that made the store, as a check, or `None`.
            check: `"all"` (the default) compares the fingerprint of every
                input, `"sample"` only of the first input in each batch.
            initial_epoch: Integer, as in `fit`, to resume a training: the first
                pass shows the view of that epoch. Defaults to 0.
            teacher_id: The `teacher_id` that `create` got, as a check, or
                `None`.

        Returns:
            A `tf.data.Dataset`. On other backends than TensorFlow, arrays and a
            `keras.utils.PyDataset` of batches of the same size become a
            `keras.utils.PyDataset`. The elements are
            `(WithSoftTargets(x, soft_targets), y)`, with sample weights if
            there are any, and without `y` if there are no labels.

        Raises:
            ImportError: As in `create`.
            ValueError: If the inputs have a different shape or dtype, the
                teacher is a different one, or an argument is invalid.
            tf.errors.InvalidArgumentError: During an epoch (`ValueError` for a
                `PyDataset`), if an input is not the one that was labelled,
                there are more examples than in the store, or a file is damaged.
        """
        check_choice("check", check, ("all", "sample"))
        initial_epoch = check_integer("initial_epoch", initial_epoch, low=0)
        augmented = self._reader.manifest["seed"] is not None
        if augmented != (augment is not None):
            raise ValueError(
                "Expected the `augment` that the store was created with, "
                f"{'a function' if augmented else 'None'}. "
                f"Received: augment={augment!r}"
            )
        if teacher is not None:
            self._check_teacher(teacher)
        if teacher_id is not None:
            self._check_teacher_id(teacher_id)
        compared = None if check == "all" else 1
        arguments = (self._reader, dataset, batch_size, compared)
        if USES_TF_DATA or is_tf_dataset(dataset) or augmented:
            return import_joining().attach(*arguments, augment, initial_epoch)
        return PairedBatches(*arguments)

    def __len__(self):
        """Number of records: of examples, times the number of views."""
        manifest = self._reader.manifest
        return manifest["examples"] * manifest["views"]

    def __getitem__(self, key):
        """Returns soft targets as NumPy arrays.

        Args:
            key: Integer, for one example without the axis of the batch, or
                slice. The records of view v begin at `v * examples`.

        Returns:
            Float32 array of logits in the shape of the teacher's output, or
            `TopKTargets` or `EnsembleTargets`; in the structure of the outputs.

        Raises:
            IndexError: If there is no such record, or a slice has a negative
                step.
            ValueError: If a file is damaged.
        """
        decode, read = self._reader.format.decode, self._reader.read
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step < 0:
                raise IndexError(
                    f"Expected a slice with a positive step. Received: {key}"
                )
            return decode(read(start, stop)[::step])
        try:
            position = range(len(self))[key]
        except IndexError:
            raise IndexError(
                f"The store has {len(self)} records. Received: {key}"
            ) from None
        (record,) = read(position, position + 1)
        return decode(record)

    def info(self):
        """Returns the properties of the store as a dict.

        Example:

        ```python
        print(keras_distill.SoftTargetStore("soft_targets").info()["examples"])
        ```

        Returns:
            Dict with `path`, `examples`, `views`, `shapes` (of each output),
            `dtype`, `top_k`, `temperatures` (`None` for all), `bytes` and
            `bytes_per_record` (of all files), `shards` (their number),
            `inputs`, `teacher` (its fingerprint, or `None` with a
            `teacher_id`), `teacher_id`, `seed` and `format_version`.
        """
        manifest = self._reader.manifest
        size = sum(shard["bytes"] for shard in manifest["shards"])
        size += (self.path / shards.MANIFEST).stat().st_size
        return {
            "path": str(self.path),
            **{key: manifest[key] for key in _PROPERTIES},
            "bytes": size,
            "bytes_per_record": size / len(self),
            "shards": len(manifest["shards"]),
        }

    def __repr__(self):
        return (
            f"<SoftTargetStore path={str(self.path)!r}, "
            f"examples={self._reader.manifest['examples']}>"
        )

    def _check_teacher(self, teacher):
        expected = self._reader.manifest["teacher"]
        if expected is None:
            raise ValueError(
                "The store has the name of its teacher instead of a "
                "fingerprint: pass `teacher_id`. Received: "
                f"teacher={teacher!r}"
            )
        fingerprint = Teacher(teacher).fingerprint()
        if fingerprint != expected:
            raise ValueError(
                "The soft targets were made by another teacher: the "
                "fingerprint of its architecture and weights is "
                f"{expected!r}. Received: a teacher with {fingerprint!r}"
            )

    def _check_teacher_id(self, teacher_id):
        check_teacher_id(teacher_id)
        expected = self._reader.manifest["teacher_id"]
        if teacher_id != expected:
            raise ValueError(
                "The soft targets were made by another teacher: its "
                f"`teacher_id` is {expected!r}. "
                f"Received: teacher_id={teacher_id!r}"
            )


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

"""The inputs of a transfer set, in the order in which they are labelled."""

import keras

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.data.batches import to_batches
from keras_distill.data.elements import refuse_soft_targets
from keras_distill.store.encoder import BATCH_SIZE
from keras_distill.store.fingerprints import fingerprint_examples


class TransferSet:
    """Batches of inputs with their fingerprints, view after view.

    On other backends than TensorFlow, it needs TensorFlow only for a
    `tf.data.Dataset` and for `augment`.

    Args:
        dataset: As in `SoftTargetStore.create`.
        batch_size: As in `SoftTargetStore.create`.
        ranks: Ranks of the teacher's inputs, or `None` if they are unknown.
        views: As in `SoftTargetStore.create`.
        augment: As in `SoftTargetStore.create`.
        seed: As in `SoftTargetStore.create`.
    """

    def __init__(self, dataset, batch_size, ranks, views, augment, seed):
        self._views = views
        self._augment = augment
        self._seed = seed
        self._batch_size = batch_size or BATCH_SIZE
        self._examples = None
        if USES_TF_DATA or is_tf_dataset(dataset) or augment is not None:
            self._examples = _import_pipelines().to_examples(
                dataset, batch_size, ranks, augment, BATCH_SIZE
            )
            return
        if not are_dense(dataset):
            raise ValueError(
                "Expected inputs that are dense arrays. "
                f"Received: dataset={dataset!r}"
            )
        self._batches, self._length = to_batches(
            dataset, batch_size, BATCH_SIZE
        )
        self._count = None
        if can_convert_arrays(dataset):
            self._count = len(keras.tree.flatten(dataset)[0])

    def count(self, first_batch_size: int):
        """Returns the number of examples in all views, or `None`."""
        if self._examples is not None:
            count = self._examples.count_examples(first_batch_size)
            return count and count * self._views
        if self._count is not None:
            return self._count
        return self._length and self._length * first_batch_size

    def __iter__(self):
        if self._examples is None:
            for element in self._batches:
                refuse_soft_targets(element)
                yield element[0], fingerprint_examples(element[0])
            return
        from keras_distill.store import joining

        for view in range(self._views):
            replayed = self._examples
            if self._augment is not None:
                replayed = _import_pipelines().replay(
                    replayed, self._augment, self._seed, view
                )
            yield from joining.list_inputs(replayed, self._batch_size)


def _import_pipelines():
    try:
        from keras_distill.data import pipelines
    except ImportError as error:
        raise ImportError(
            "A `tf.data.Dataset` and `augment` need TensorFlow: "
            "`pip install tensorflow`."
        ) from error
    return pipelines

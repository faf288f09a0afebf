"""The inputs of a transfer set, in the order in which they are labelled."""

import keras

from keras_distill.backend import USES_TF_DATA
from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import is_tf_dataset
from keras_distill.data.batches import to_batches
from keras_distill.store.encoder import BATCH_SIZE
from keras_distill.store.example_fingerprints import fingerprint_examples
from keras_distill.validation import check_integer


class TransferSet:
    """Batches of inputs with their fingerprints, view after view."""

    def __init__(self, dataset, batch_size, views, augment, seed, ranks):
        self.views = check_integer("views", views, low=1)
        seed = check_integer("seed", seed, low=0, high=2**63 - 1)
        if augment is not None and not callable(augment):
            raise ValueError(
                "Expected `augment` to be a function `(x, seed) -> x`. "
                f"Received: augment={augment!r}"
            )
        if views > 1 and augment is None:
            raise ValueError(
                "Several `views` need an `augment`, a function "
                "`(x, seed) -> x`. Otherwise all views would be equal. "
                f"Received: views={views}, augment=None"
            )
        self.seed = None if augment is None else seed
        if USES_TF_DATA or is_tf_dataset(dataset) or augment is not None:
            joining = import_joining()
            examples = joining.pipelines.to_examples(
                dataset, batch_size, ranks, augment, BATCH_SIZE
            )
            self._batches = joining.list_inputs(
                examples, batch_size or BATCH_SIZE, self.views, augment, seed
            )
            self._length, self._batched = examples.length, examples.batched
            return
        if not are_dense(dataset):
            raise ValueError(
                "Expected inputs that are dense arrays. "
                f"Received: dataset={dataset!r}"
            )
        batches, self._length = to_batches(dataset, batch_size, BATCH_SIZE)
        self._batches = ((x, fingerprint_examples(x)) for x, *_ in batches)
        self._batched = not can_convert_arrays(dataset)
        if not self._batched:
            self._length = len(keras.tree.flatten(dataset)[0])

    def __iter__(self):
        return iter(self._batches)

    def count(self, first_batch_size: int) -> int | None:
        """Estimates the number of examples in all views, if it is known."""
        size = first_batch_size if self._batched else 1
        return self._length and self._length * self.views * size


def import_joining():
    """Returns the module that needs TensorFlow."""
    try:
        from keras_distill.store import joining
    except ImportError as error:
        raise ImportError(
            "A `tf.data.Dataset` and `augment` need TensorFlow: "
            "`pip install tensorflow`."
        ) from error
    return joining

"""Soft targets of arrays, computed once and kept in memory."""

import math
import typing
import warnings

import keras
import numpy as np
from keras import ops

from keras_distill.backend import has_several_processes
from keras_distill.backend import is_distributed
from keras_distill.backend import keeping_variables
from keras_distill.backend.keras_compat import are_dense
from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.data.elements import FIT_BATCH_SIZE
from keras_distill.fingerprints import fingerprint_arrays
from keras_distill.forward import first_tensor
from keras_distill.targets import CheckedTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.validation import check_finite

# The memory that `cache="auto"` may use at its peak: 4 GiB.
BUDGET = 2**32
# The peak has the batches that `predict` concatenates, the whole array, and the
# tensors that `fit` makes from it.
_COPIES = 4
# The teacher keeps no activations for a gradient, so its batches can be larger
# than the batches of the training: by this factor, up to this many examples.
_BATCHES = 8
_LARGER_BATCH = 256


class TargetCache:
    """The soft targets of the arrays that `fit` got last."""

    def __init__(self):
        self._key: typing.Any = None
        self._targets: typing.Any = None
        self._predictor: typing.Any = None
        self._temperatures: typing.Any = None
        self.in_use = False

    def join(self, x, predictor, batch_size, verbose, is_required):
        """Returns arrays with soft targets, if the teacher can repeat them."""
        # The teacher runs again only if an input, the teacher or a temperature
        # that matters has changed.
        key = (fingerprint_arrays(x), predictor.fingerprint())
        if key != self._key:
            # Before there are new ones in memory.
            self._key = self._targets = None
            batch_size = _choose_batch_size(batch_size)
            with keeping_variables(predictor):
                if not is_required and not is_repeatable(
                    predictor, x, batch_size
                ):
                    warnings.warn(
                        "The teacher returns different outputs for the same "
                        "inputs if it is called again, or with a batch of "
                        "another size. It is called in each step instead of "
                        "once. `cache=True` keeps its first outputs.",
                        stacklevel=3,
                    )
                    return x
                if verbose:
                    print("Soft targets of the transfer set, computed once:")
                targets = predictor.predict(
                    x, batch_size=batch_size, verbose=verbose
                )
            keras.tree.map_structure(check_finite, targets)
            self._targets = targets
            self._predictor = predictor
            self._temperatures = predictor.temperatures()
            self._key = key
        self.in_use = True
        return WithSoftTargets(x, CheckedTargets(self._targets))

    def check(self, teacher, objective) -> None:
        """Raises a `ValueError` if teacher or temperatures have changed."""
        if not self.in_use:
            return
        if self._predictor.teacher is not teacher:
            raise ValueError(
                "The soft targets were computed by the former teacher. To "
                "replace the teacher during the training, pass `cache=False` "
                "to `fit`. Received: another teacher"
            )
        if self._temperatures is None:
            return
        temperatures = objective.temperatures()
        if self._temperatures != temperatures:
            raise ValueError(
                "The soft targets of an ensemble were computed at the "
                f"temperature {self._temperatures}, and do not hold at "
                "another temperature. To change the temperature during the "
                "training, pass `cache=False` to `fit`. Received: "
                f"temperature={temperatures}"
            )


def should_cache(cache, data: tuple, steps_per_epoch, model, predictor) -> bool:
    """Decides whether the teacher runs once, before the training."""
    x, *_ = data
    is_auto = isinstance(cache, str) and cache == "auto"
    if not is_auto and not isinstance(cache, bool):
        raise ValueError(
            'Expected `cache` to be "auto", True or False. '
            f"Received: cache={cache!r}"
        )
    if not cache or predictor is None or isinstance(x, WithSoftTargets):
        return False
    arrays = can_convert_arrays(data) and are_dense(x)
    if cache is True:
        if not arrays:
            raise ValueError(
                "`cache=True` needs dense arrays: a dataset or generator may "
                "return different inputs in each epoch. Received: x of type "
                f"{type(x).__name__}"
            )
        if has_several_processes(model):
            raise ValueError(
                "`cache=True` needs one process, because each of several "
                "processes has only a part of each batch. Create a "
                "`SoftTargetStore` once, and train on what it attaches. "
                "Received: cache=True"
            )
        return True
    if (
        not arrays
        or is_distributed(model)
        or predictor.teacher.weights() is None
        or predictor.teacher.list_shared_weights(model.student)
        or steps_per_epoch is not None
    ):
        return False
    size = estimate_bytes(x, predictor)
    if size > BUDGET:
        warnings.warn(
            f"The soft targets need {size / 2**30:.1f} GiB at the peak, more "
            f'than the {BUDGET / 2**30:g} GiB that `cache="auto"` may use. '
            "The teacher is called in each step instead. `cache=True` keeps "
            "the soft targets in memory, a `SoftTargetStore` on disk.",
            stacklevel=4,
        )
    return size <= BUDGET


def estimate_bytes(x, predictor) -> int:
    """Returns the memory for the soft targets when a training begins."""
    outputs = predictor.teacher.find_outputs()
    if outputs is None or any(None in output.shape[1:] for output in outputs):
        # One example shows the shapes.
        first = keras.tree.map_structure(
            lambda array: (
                array if array is None else ops.convert_to_tensor(array)
            ),
            _take(x, 1),
        )
        outputs = keras.tree.flatten(predictor(first))
    examples = first_tensor(x).shape[0]
    return _COPIES * sum(
        # The predictor returns at least float32.
        np.dtype(keras.backend.result_type(output.dtype, "float32")).itemsize
        * examples
        * math.prod(output.shape[1:])
        for output in outputs
    )


def is_repeatable(predictor, x, batch_size) -> bool:
    """Whether a teacher gives examples the same outputs in other batches."""

    def predict(size):
        first = _take(x, size)
        outputs = predictor.predict(first, batch_size=batch_size, verbose=0)
        return keras.tree.flatten(outputs)

    # Dropout and batch statistics can be active outside of training.
    count = first_tensor(x).shape[0]
    size = min(batch_size, count)
    # The size of the last batch needs to be compiled anyway.
    smaller = count % size or max(1, size // 2)
    whole = predict(size)
    return all(
        map(_are_close, [*whole, *whole], [*predict(size), *predict(smaller)])
    )


def _take(x, count: int):
    """Returns the first examples of a structure of arrays."""
    return keras.tree.map_structure(
        # An optional input may be `None`.
        lambda array: array if array is None else array[:count],
        x,
    )


def _are_close(first, second) -> bool:
    """Whether outputs differ by no more than rounding in half precision."""
    difference = np.abs(first[: len(second)] - second)
    # NaN and infinity are reported later.
    return not np.any(difference > 0.01 * np.ptp(first))


def _choose_batch_size(batch_size) -> int:
    """Returns the teacher's batch size for a batch size of the training."""
    batch_size = batch_size or FIT_BATCH_SIZE
    return max(batch_size, min(_BATCHES * batch_size, _LARGER_BATCH))

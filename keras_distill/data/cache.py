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
from keras_distill.fingerprints import fingerprint_arrays
from keras_distill.targets import CheckedTargets
from keras_distill.targets import WithSoftTargets

# The memory that `cache="auto"` may use at its peak: 4 GiB.
BUDGET = 2**32
# At the peak there are the batches that `predict` joins, the whole array, and
# the tensors that `fit` makes of it.
_COPIES = 4
# The teacher keeps no activations for a gradient, so its batches can be larger
# than those of the training: this many times, up to this many examples.
_BATCHES = 8
_LARGER_BATCH = 256
# The default of `fit`.
_DEFAULT_BATCH = 32


class TargetCache:
    """The soft targets of the arrays that were used last."""

    def __init__(self):
        self._key: typing.Any = None
        self._targets: typing.Any = None
        self._predictor: typing.Any = None
        self._temperatures: typing.Any = None
        self.in_use = False

    def join(self, x, predictor, batch_size, verbose) -> WithSoftTargets:
        """Returns arrays with their soft targets, computed or remembered.

        They are computed again if an input, a weight of the teacher, or a
        temperature that matters has changed.

        Args:
            x: Structure of arrays.
            predictor: `TargetPredictor`.
            batch_size: Batch size of the training, or `None`.
            verbose: As in `keras.Model.fit`.

        Raises:
            ValueError: If the teacher's outputs are not finite.
        """
        key = (fingerprint_arrays(x), predictor.fingerprint())
        if key != self._key:
            if verbose:
                print("The teacher labels the transfer set, once:")
            with keeping_variables(predictor):
                targets = predictor.predict(
                    x,
                    batch_size=_choose_batch_size(batch_size),
                    verbose=verbose,
                )
            keras.tree.map_structure(_check_finite, targets)
            self._targets = predictor.restore_kinds(targets)
            self._predictor = predictor
            self._temperatures = predictor.temperatures()
            self._key = key
        self.in_use = True
        return WithSoftTargets(x, CheckedTargets(self._targets))

    def check(self, teacher, temperatures) -> None:
        """Raises a `ValueError` if teacher or temperatures have changed."""
        if not self.in_use:
            return
        if self._predictor.teacher is not teacher:
            raise ValueError(
                "The soft targets were computed by the former teacher. Pass "
                "`cache=False` to `fit` to replace the teacher during the "
                "training."
            )
        if self._temperatures not in (None, temperatures):
            raise ValueError(
                "The soft targets of an ensemble were computed at the "
                f"temperature {self._temperatures}, and do not hold at "
                "another. Pass `cache=False` to `fit` to change the "
                f"temperature. Received: temperature={temperatures}"
            )


def should_cache(cache, x, y, sample_weight, steps_per_epoch, model, predictor):
    """Decides whether the teacher runs once, before the training.

    Args:
        cache: The argument of `fit`, and so are the next four.
        x: See there.
        y: See there.
        sample_weight: See there.
        steps_per_epoch: See there.
        model: The `Distiller`.
        predictor: `TargetPredictor`, or `None` if there is no teacher.

    Raises:
        ValueError: If `cache` is not `"auto"`, `True` or `False`, or is `True`
            where caching is impossible.
    """
    if cache not in ("auto", True, False):
        raise ValueError(
            'Expected `cache` to be "auto", True or False. '
            f"Received: cache={cache!r}"
        )
    if not cache or predictor is None or isinstance(x, WithSoftTargets):
        return False
    arrays = can_convert_arrays((x, y, sample_weight)) and are_dense(x)
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
    if outputs is None or any(None in each.shape[1:] for each in outputs):
        # One example shows the shapes.
        first = keras.tree.map_structure(
            lambda array: ops.convert_to_tensor(array[:1]), x
        )
        outputs = keras.tree.flatten(predictor(first))
    examples = len(keras.tree.flatten(x)[0])
    return _COPIES * sum(
        _count_bytes(each.dtype) * examples * math.prod(each.shape[1:])
        for each in outputs
    )


def _choose_batch_size(batch_size) -> int:
    """Returns the batch size of the teacher, from that of the training."""
    batch_size = batch_size or _DEFAULT_BATCH
    return max(batch_size, min(_BATCHES * batch_size, _LARGER_BATCH))


def _count_bytes(dtype) -> int:
    """Returns the size of a number as the predictor returns it."""
    return np.dtype(keras.backend.result_type(dtype, "float32")).itemsize


def _check_finite(targets) -> None:
    finite = np.isfinite(targets).reshape(len(targets), -1).all(-1)
    if not finite.all():
        raise ValueError(
            "The soft targets are not finite: the teacher's logits for example "
            f"{np.argmin(finite)} (the first is 0) contain a NaN or an "
            f"infinity, and {np.sum(~finite)} of {len(finite)} examples are "
            "like that. The student has not been trained. Look at the inputs. "
            "A teacher in float16 overflows above 65504."
        )

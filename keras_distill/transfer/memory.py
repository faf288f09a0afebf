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
from keras_distill.backend.keras_internals import are_dense
from keras_distill.backend.keras_internals import can_convert_arrays
from keras_distill.fingerprints import fingerprint_arrays
from keras_distill.logits import mark
from keras_distill.transfer.targets import unpack_targets

# What `cache="auto"` may take at its peak: 4 GiB.
BUDGET = 2**32
# At the peak there are the batches that `predict` joins, the whole, and the
# tensors that `fit` makes of it.
_COPIES = 4
# The teacher keeps no activations for a gradient: its batches may be larger
# than those of the training, so many times, up to so many examples.
_BATCHES = 8
_LARGER_BATCH = 256
# Of `fit`.
_DEFAULT_BATCH = 32


class Labelled(typing.NamedTuple):
    """The soft targets of a transfer set.

    Args:
        soft_targets: Arrays, in the structure of the teacher's outputs.
        known_logits: For each of them, in flat order, whether it is known to
            hold logits.
        teacher: The `Teacher` that computed them.
        temperatures: Those of the distillation losses, where the soft targets
            depend on them, or `None`.
    """

    soft_targets: typing.Any
    known_logits: tuple
    teacher: typing.Any
    temperatures: tuple | None


class Memory:
    """The soft targets of the arrays that were labelled last.

    A plain object, which Keras does not look into.
    """

    def __init__(self):
        self._key: typing.Any = None
        self._labelled: typing.Any = None
        self._in_use = False

    @property
    def in_use(self):
        """Whether a training has its soft targets from here."""
        return self._in_use

    @property
    def known_logits(self):
        """As in `Labelled`, of what is in use, else `None`."""
        return self._labelled.known_logits if self._in_use else None

    def release(self):
        """Notes that a training does without."""
        self._in_use = False

    def label(self, x, labeller, batch_size, verbose):
        """Returns the soft targets of arrays, computed or remembered.

        They are computed anew when an input, a weight of the teacher, or a
        temperature that matters has changed.

        Args:
            x: Structure of arrays.
            labeller: `Labeller`.
            batch_size: That of the training, or `None`.
            verbose: As in `keras.Model.fit`.

        Returns:
            Arrays, in the structure of the teacher's outputs.

        Raises:
            ValueError: If the teacher's outputs are not finite.
        """
        key = (fingerprint_arrays(x), labeller.fingerprint())
        if key != self._key:
            if verbose:
                print("The teacher labels the transfer set, once:")
            with keeping_variables(labeller):
                soft_targets = labeller.predict(
                    x,
                    batch_size=_choose_batch_size(batch_size),
                    verbose=verbose,
                )
            keras.tree.map_structure(_check_finite, soft_targets)
            self._labelled = Labelled(
                soft_targets,
                labeller.known_logits,
                labeller.teacher,
                labeller.temperatures(),
            )
            self._key = key
        self._in_use = True
        return self._labelled.soft_targets

    def mark(self, soft_targets):
        """Notes on a batch of what is in use that it holds logits."""
        for known, batch in zip(
            self._labelled.known_logits,
            keras.tree.flatten(soft_targets),
            strict=True,
        ):
            if known:
                mark(batch, ops.copy(batch))

    def check(self, teacher, temperatures):
        """Refuses to serve what has changed since the labelling.

        Args:
            teacher: The present `Teacher`.
            temperatures: The present temperatures of the losses.

        Raises:
            ValueError: If what is in use was made by another teacher, or
                depends on another temperature.
        """
        if not self._in_use:
            return
        if self._labelled.teacher is not teacher:
            raise ValueError(
                "The soft targets were computed by the former teacher. Pass "
                "`cache=False` to `fit` where the teacher is exchanged during "
                "the training."
            )
        if self._labelled.temperatures not in (None, temperatures):
            raise ValueError(
                "The soft targets of an ensemble were computed at the "
                f"temperature {self._labelled.temperatures}, and do not serve "
                "another. Pass `cache=False` to `fit` where the temperature "
                f"changes. Received: temperature={temperatures}"
            )


def should_label(cache, data, labeller, model):
    """Decides whether a transfer set is labelled before the training.

    Args:
        cache: The argument of `fit`.
        data: Dict of the arguments `x`, `y`, `sample_weight` and
            `steps_per_epoch` of `fit`.
        labeller: `Labeller`, or `None` where there is no teacher.
        model: The `Distiller`.

    Returns:
        A bool.

    Raises:
        ValueError: If `cache` is something else than `"auto"`, `True` and
            `False`, or is `True` where that can not be done.
    """
    if cache not in ("auto", True, False):
        raise ValueError(
            'Expected `cache` to be "auto", True or False. '
            f"Received: cache={cache!r}"
        )
    has_soft_targets = unpack_targets(data["y"])[1] is not None
    if not cache or labeller is None or has_soft_targets:
        return False
    arrays = can_convert_arrays(
        (data["x"], data["y"], data["sample_weight"])
    ) and are_dense(data["x"])
    if cache is True:
        if not arrays:
            raise ValueError(
                "`cache=True` needs dense arrays: a dataset or generator may "
                "give other inputs in each epoch. Received: x of type "
                f"{type(data['x']).__name__}"
            )
        if has_several_processes(model):
            raise ValueError(
                "`cache=True` needs one process: each of several has a part "
                "of each batch. Label once with a `SoftTargetStore`, and pass "
                "what it attaches. Received: cache=True"
            )
        return True
    if (
        not arrays
        or is_distributed(model)
        or labeller.teacher.weights() is None
        or labeller.teacher.list_shared_weights(model.student)
        or data["steps_per_epoch"] is not None
    ):
        return False
    size = estimate_bytes(data["x"], labeller)
    if size > BUDGET:
        warnings.warn(
            f"The soft targets take {size / 2**30:.1f} GiB at the peak, more "
            f'than the {BUDGET / 2**30:g} GiB that `cache="auto"` may take. '
            "The teacher is called in each step; `cache=True` keeps them in "
            "memory all the same, and a `SoftTargetStore` on disk.",
            stacklevel=4,
        )
    return size <= BUDGET


def estimate_bytes(x, labeller):
    """Returns the memory that soft targets take when a training begins.

    Args:
        x: Structure of arrays.
        labeller: `Labeller` with a teacher that is a Keras model.
    """
    outputs = labeller.teacher.find_outputs()
    if outputs is None or any(None in each.shape[1:] for each in outputs):
        # Of one example everything is known.
        first = keras.tree.map_structure(
            lambda array: ops.convert_to_tensor(array[:1]), x
        )
        outputs = keras.tree.flatten(labeller(first))
    examples = len(keras.tree.flatten(x)[0])
    return _COPIES * sum(
        _count_bytes(each.dtype) * examples * math.prod(each.shape[1:])
        for each in outputs
    )


def _choose_batch_size(batch_size):
    """Returns how many examples the teacher labels at a time.

    Args:
        batch_size: That of the training, or `None`.
    """
    batch_size = batch_size or _DEFAULT_BATCH
    return max(batch_size, min(_BATCHES * batch_size, _LARGER_BATCH))


def _count_bytes(dtype):
    """Returns the size of a number as `standardize` returns it."""
    return np.dtype(keras.backend.result_type(dtype, "float32")).itemsize


def _check_finite(soft_targets):
    finite = np.isfinite(soft_targets).reshape(len(soft_targets), -1).all(-1)
    if not finite.all():
        raise ValueError(
            "The soft targets are not finite: the teacher's logits for example "
            f"{np.argmin(finite)} (the first is 0) hold a NaN or an infinity, "
            f"and {np.sum(~finite)} of {len(finite)} examples are like that. "
            "The student has not been trained. Look at the inputs; a teacher "
            "in float16 overflows above 65504."
        )

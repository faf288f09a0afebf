"""Soft targets of arrays, computed once and kept in memory."""

import hashlib
import math
import typing

import keras
import numpy as np
from keras import ops

from keras_distill.logits import are_marked
from keras_distill.logits import to_logits

# What `cache="auto"` may take: 1 GiB.
BUDGET = 2**30
# The teacher keeps no activations for a gradient: its batches may be larger.
_SMALLEST_BATCH = 256


class Labelled(typing.NamedTuple):
    """The soft targets of a transfer set.

    Args:
        soft_targets: Arrays, in the structure of the teacher's outputs.
        known_logits: For each of them, in flat order, whether it is known to
            hold logits.
        temperatures: Those of the distillation losses, where the soft targets
            depend on them, or `None`.
    """

    soft_targets: typing.Any
    known_logits: tuple
    temperatures: tuple | None


class Memory:
    """Remembers the soft targets of the arrays that it labelled last."""

    def __init__(self):
        self._key: typing.Any = None
        self._labelled: typing.Any = None

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
            `Labelled`.

        Raises:
            ValueError: If the teacher's outputs are not finite.
        """
        key = (_fingerprint(x), labeller.fingerprint())
        if key != self._key:
            if verbose:
                print("The teacher labels the transfer set, once:")
            soft_targets = labeller.predict(
                x,
                batch_size=max(batch_size or 0, _SMALLEST_BATCH),
                verbose=verbose,
            )
            keras.tree.map_structure(_check_finite, soft_targets)
            self._labelled = Labelled(
                soft_targets, labeller.known_logits, labeller.temperatures()
            )
            self._key = key
        return self._labelled


class Labeller(keras.Model):
    """A teacher as a Keras model, for the sake of its `predict`.

    Args:
        teacher: `Teacher`.
        distillation: `Distillation`: an ensemble is averaged at its
            temperature.
        output_names: Names of the student's outputs, or `None`.
        look: As in `Teacher`.
    """

    def __init__(self, teacher, distillation, output_names, look):
        super().__init__(autocast=False)
        self._teacher = teacher
        self._distillation = distillation
        self._arguments = (distillation, output_names, look)
        self.known_logits = ()

    def call(self, inputs):
        outputs = self._teacher(inputs, *self._arguments)
        self.known_logits = tuple(
            are_marked(output) for output in keras.tree.flatten(outputs)
        )
        return keras.tree.map_structure(_standardize, outputs)

    def temperatures(self):
        """The temperatures on which the outputs depend, or `None`."""
        if not self._teacher.averages_at_a_temperature:
            return None
        return self._distillation.present_temperatures()

    def fingerprint(self):
        """Returns what is equal as long as the outputs are."""
        weights = self._teacher.weights()
        # Nobody knows what else a function depends on.
        identity = object() if weights is None else id(self._teacher.given)
        return identity, _fingerprint(weights or []), self.temperatures()


def estimate_bytes(x, student):
    """Returns the size of the soft targets, or `inf` where it is not known.

    Args:
        x: Structure of arrays.
        student: `keras.Model`, whose outputs have the shapes of the teacher's.
    """
    outputs = getattr(student, "outputs", None) or []
    shapes = [tuple(output.shape[1:]) for output in outputs]
    if not shapes or any(None in shape for shape in shapes):
        return math.inf
    examples = len(keras.tree.flatten(x)[0])
    return sum(4 * examples * math.prod(shape) for shape in shapes)


def _standardize(outputs):
    if not keras.backend.is_float_dtype(outputs.dtype):
        raise ValueError(
            "Expected floating point logits as soft targets. Received: "
            f"dtype={outputs.dtype}. Does the teacher return class ids?"
        )
    # NumPy has no bfloat16, and half precision is cast up by the losses.
    dtype = keras.backend.result_type(outputs.dtype, "float32")
    return ops.cast(to_logits(outputs), dtype)


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


def _fingerprint(arrays):
    """Returns a hash of all bytes in a structure of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for path, array in keras.tree.flatten_with_path(arrays):
        array = np.ascontiguousarray(ops.convert_to_numpy(array))
        digest.update(repr((path, array.shape, array.dtype)).encode())
        digest.update(array.view(np.uint8).data)
    return digest.digest()

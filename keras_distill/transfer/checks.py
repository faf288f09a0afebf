"""What is wrong with a transfer set is said before it does harm."""

import contextlib
import re
import sys
import typing
import warnings

import keras
import numpy as np
from keras import ops

from keras_distill.backend import NumericsError
from keras_distill.backend import call_step
from keras_distill.backend import check_finite
from keras_distill.backend import is_ready
from keras_distill.backend import read_failure
from keras_distill.logits import are_marked
from keras_distill.logits import mark
from keras_distill.logits import to_logits
from keras_distill.losses.conditions import OTHER_CLASSES
from keras_distill.losses.conditions import OTHER_TEMPERATURE
from keras_distill.soft_targets import is_compound
from keras_distill.soft_targets import map_outputs

_NOT_FINITE = "The soft targets are not finite"
_NEEDS_LABELS = "The data has no labels"
NEEDS_LABELS = (
    "`alpha < 1` gives the labels a weight, but the data has no labels. For "
    "soft targets alone pass `loss=None` or `alpha=1.0` to `compile`; where "
    "only some examples have labels, give the others the label -1 and the "
    "loss `ignore_class=-1`. Received: y=None"
)
NEEDS_TEACHER = (
    "`distillation_metrics` compare the student with its teacher, and "
    "`evaluate` has none: set `distiller.teacher`, or pass data with "
    '`y={"labels": labels, "soft_targets": logits}`. They are left out.'
)
_FIXES = {
    "teacher": (
        "Pass `teacher_from_logits=False` to the distillation loss "
        "(`from_logits=False` if the student's are probabilities too)"
    ),
    "student": (
        "Pass `from_logits=False` to the distillation loss (with "
        "`teacher_from_logits=True` if the teacher's are logits)"
    ),
}
# A few rows tell logits from probabilities.
_ROWS = 8


class BatchCheck:
    """Looks at the numbers of each training step at almost no cost.

    It works inside the compiled step: NaN and infinite soft targets stop the
    step before a weight changes, and a handful of rows is tested for being
    probabilities where logits are expected. Outside, `run` turns what it found
    into an error or a warning.

    Args:
        fixes: Dict from `"teacher"` and `"student"` to what to do where their
            outputs look like probabilities. Defaults to what `compile` can do.
    """

    def __init__(self, fixes=None):
        self._fixes = fixes or _FIXES
        # Plain variables: a metric takes ten operations for each of these.
        self.batches = _make_variable("batches")
        # Where a step can not stop, it notes here what is wrong.
        self.failure = _make_variable("failure")
        self._deviations = {
            # Negative as long as nothing was seen.
            who: _make_variable(f"{who}_deviation", -1.0)
            for who in ("student", "teacher")
        }
        self._looked_at = set()
        self._warned = False
        # What steps have noted where they can not stop.
        self._pending: typing.Any = None
        self._latest: typing.Any = None

    @property
    def variables(self):
        """What a step counts and notes, for backends that pass it on."""
        return [self.failure, self.batches, *self._deviations.values()]

    def reset(self):
        """Starts to count the batches of a new epoch."""
        with self.explaining():
            self.batches.assign(0.0)
            self.failure.assign(0.0)

    def count_batch(self):
        """Called once in each training step, first."""
        self.batches.assign_add(1.0)

    def finite(self, soft_targets):
        """Returns soft targets that stop the step where they are not finite.

        Args:
            soft_targets: Structure of tensors, `TopKTargets` and the like.

        Raises:
            ValueError: If they are not floating point numbers.
        """
        return map_outputs(_check_output, soft_targets)

    def only_soft(self, alpha):
        """Returns `alpha`, or stops the step where it is below 1.

        For batches without labels: `alpha` may change after a step has been
        compiled for them.
        """
        return check_finite(ops.where(alpha < 1, np.nan, alpha), _NEEDS_LABELS)

    def look(self, who, outputs, from_logits, axis):
        """Notes whether a few rows of `outputs` could be logits.

        Args:
            who: `"teacher"` or `"student"`.
            outputs: Its outputs.
            from_logits: Whether they are taken for logits.
            axis: Axis of the classes.
        """
        if not from_logits or are_marked(outputs):
            return
        self._looked_at.add(who)
        rows = ops.cast(outputs[:_ROWS], "float32")
        # 0 for a row of probabilities. Few operations: they run in each step.
        deviation = ops.abs(ops.sum(ops.abs(rows), axis=axis) - 1.0)
        self._deviations[who].assign(ops.max(deviation))

    def run(self, model, step, args):
        """Runs a compiled step; explains its errors, warns after the first.

        Args:
            model: The `Distiller`.
            step: The function that Keras compiled.
            args: Its arguments.

        Returns:
            What `step` returns.

        Raises:
            ValueError: If the soft targets were not finite, or a label was
                outside of the classes.
        """
        with self._translating():
            # The oldest that is not read yet: one that failed, and all after
            # it, have noted the same.
            if is_ready(self._pending):
                read_failure(self._pending)
                self._pending = None
            result, notes = call_step(model, step, args)
            self._latest = notes
            if self._pending is None:
                self._pending = notes
        self.warn_once(notes)
        return result

    def warn_once(self, notes=None):
        """Warns, the first time it is called, of what looks wrong.

        Args:
            notes: As from `backend.call_step`. Defaults to `None`: all that
                was noted is in the variables.
        """
        if not self._warned:
            self._warned = True
            self._warn(notes)

    @contextlib.contextmanager
    def explaining(self):
        """Turns the errors of the steps that it knows into a `ValueError`.

        When it ends, the last step has been looked at.
        """
        with self._translating():
            try:
                yield
            except BaseException:
                self._forget()
                raise
            self.read()

    def read(self):
        """Raises what a step has noted, and waits for the last one to end.

        Raises:
            ValueError: If there is something.
        """
        with self._translating():
            read_failure(self._forget())

    def _forget(self):
        """Returns the latest notes, which are not looked at any more."""
        latest = self._latest
        self._pending = self._latest = None
        return latest

    @contextlib.contextmanager
    def _translating(self):
        try:
            yield
        except _errors_of_steps() as error:
            explanation = self._explain(error)
            if explanation is None:
                raise
            raise ValueError(explanation) from None

    def _explain(self, error):
        message = str(error)
        if _NOT_FINITE in message:
            return (
                f"{_NOT_FINITE} in batch {self._find_batch(error)} of this "
                "epoch (the first is 1): the teacher's logits hold a NaN "
                "or an infinity. The student's weights are those from before "
                "that batch. Look at the inputs of the batch. A teacher in "
                "float16 overflows above 65504; one that rules out classes "
                "has to do so with a finite logit, such as -1e9."
            )
        of_a_store = re.search(r"\bStoreError: (.*)", message)
        if of_a_store:
            return of_a_store[1]
        if _NEEDS_LABELS in message:
            return NEEDS_LABELS
        if OTHER_TEMPERATURE in message:
            return (
                f"{OTHER_TEMPERATURE}. The mass of the classes outside of the "
                "top k, and the mean of an ensemble, can not be had at "
                "another temperature: name it when you make the soft targets "
                "(`temperatures=...`). `SoftTargetStore.info()` lists those "
                "of a store."
            )
        if OTHER_CLASSES in message:
            return f"{OTHER_CLASSES}."
        if "label value" in message and "outside the valid range" in message:
            found = message[message.index("label value") :].split("Label")[0]
            return (
                "Expected the labels to be classes of the student, and "
                f"`ignore_class` of the loss where there is no label. "
                f"Received in batch {self._find_batch(error)} of this "
                f"epoch a {found.strip()}"
            )
        return None

    def _find_batch(self, error):
        # Where variables are part of a state, the error knows the batch.
        batch = getattr(error, "batch", None)
        return int(_read(self.batches)) if batch is None else batch

    def _warn(self, notes):
        if notes is None:
            notes = map(_read, self.variables)
        _, _, *deviations = notes
        for who, deviation in zip(self._deviations, deviations, strict=True):
            if who in self._looked_at and 0 <= float(deviation) < 1e-2:
                warnings.warn(
                    f"The {who}'s outputs look like probabilities (rows in "
                    "[0, 1] that sum to 1), but are taken for logits. "
                    f"{self._fixes[who]}, or take the softmax out "
                    f"of the {who}.",
                    stacklevel=2,
                )


def _errors_of_steps():
    # Also on other backends the data may come from TensorFlow.
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return NumericsError
    return NumericsError, tensorflow.errors.InvalidArgumentError


def _make_variable(name, value=0.0):
    # The replicas of a strategy see the same, or parts of the same batch.
    return keras.Variable(
        value,
        dtype="float32",
        trainable=False,
        aggregation="only_first_replica",
        name=name,
    )


def _read(variable):
    return float(ops.convert_to_numpy(ops.convert_to_tensor(variable)))


def _check_output(outputs):
    if is_compound(outputs):
        return outputs._replace(logits=_check_output(outputs.logits))
    if isinstance(outputs, np.ndarray):
        # `train_on_batch` hands on arrays as they are, in PyTorch.
        outputs = ops.convert_to_tensor(outputs)
    dtype = keras.backend.standardize_dtype(outputs.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "Expected floating point logits as soft targets. "
            f"Received: dtype={dtype}. Does the teacher return class ids?"
        )
    checked = check_finite(to_logits(outputs), _NOT_FINITE)
    if not are_marked(outputs):
        return checked
    # Whoever waits for what is returned waits for the check.
    logits = ops.copy(checked)
    mark(logits, checked)
    return logits

"""Soft targets that a step cannot train on: masked, counted and reported."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_distill.backend import is_free_to_read
from keras_distill.backend import sum_over_replicas
from keras_distill.backend.keras_compat import are_dense
from keras_distill.losses.distillation_loss import OTHER_TARGETS
from keras_distill.targets import CheckedTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.targets import flatten_outputs
from keras_distill.targets import map_outputs

NEEDS_LABELS = (
    "`alpha < 1` gives the labels a weight, but the data has no labels. To "
    "train on soft targets only, pass `loss=None` or `alpha=1.0` to `compile`. "
    "If only some examples have labels, give the others the label -1 and the "
    "loss `ignore_class=-1`. Received: y=None"
)
_FIXES = {
    "teacher": (
        "Pass `teacher_from_logits=False` to the distillation loss "
        "(`from_logits=False` if the student's outputs are probabilities as "
        "well)"
    ),
    "student": (
        "Pass `from_logits=False` to the distillation loss (with "
        "`teacher_from_logits=True` if the teacher's outputs are logits)"
    ),
}
# The entries of the report of an epoch.
_BATCH, _CODE, _ROWS, _TEACHER, _STUDENT = range(5)
# The codes of what can be wrong.
NOT_FINITE, DO_NOT_SERVE, NO_LABELS = 1, 2, 3
# A few rows tell logits from probabilities.
_INSPECTED = 8


class StepCheck:
    """Masks, counts and reports soft targets that a step cannot train on.

    A compiled step cannot stop. It gives the samples in question no weight and
    notes the first batch with such a sample in a report. The report is read
    after the step where reading does not wait for a device, and at the latest
    at the end of the epoch.
    """

    def __init__(self):
        self.report = keras.Variable(
            self._make_initial_report(),
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
            name="report",
        )
        # Whose outputs may be probabilities, as far as one can see.
        self.inspected = {"student", "teacher"}
        self._warned = False
        self._unread = self._latest = None

    def _make_initial_report(self):
        # A negative deviation means that no outputs were inspected.
        return np.array([0, 0, 0, -1, -1], "float32")

    def reset(self) -> None:
        """Starts the report of a new epoch."""
        # The teacher may have been inspected before the first epoch.
        kept = _select(_TEACHER) + _select(_STUDENT)
        self.report.assign(ops.convert_to_tensor(self.report) * kept)
        self._unread = self._latest = None

    # ---- Inside of a step

    def mask(self, inputs, targets) -> WithSoftTargets:
        """Replaces samples with non-finite soft targets by zeros."""
        rows = None
        for target in flatten_outputs(targets):
            finite = target.are_finite()
            rows = finite if rows is None else ops.logical_and(rows, finite)
        count = ops.sum(ops.cast(ops.logical_not(rows), "float32"))
        count = sum_over_replicas(count)
        report = ops.convert_to_tensor(self.report)
        failed = report[_CODE] > 0
        changes = [
            ops.cast(ops.logical_not(failed), "float32"),
            ops.where(
                ops.logical_and(count > 0, ops.logical_not(failed)),
                float(NOT_FINITE),
                0.0,
            ),
            count,
            ops.zeros_like(count),
            ops.zeros_like(count),
        ]
        self.report.assign(report + ops.stack(changes))
        inputs = keras.tree.map_structure(
            lambda x: _mask_inputs(x, rows), inputs
        )
        targets = map_outputs(lambda target: target.mask(rows), targets)
        return WithSoftTargets(inputs, CheckedTargets(targets, rows))

    def note(self, code: int, wrong) -> None:
        """Notes that something is wrong with a batch, if `wrong` is true."""
        report = ops.convert_to_tensor(self.report)
        first = ops.logical_and(wrong, ops.equal(report[_CODE], 0))
        change = code * _select(_CODE)
        self.report.assign(ops.where(first, report + change, report))

    def inspect(self, who: str, outputs, axis: int) -> None:
        """Notes how far a few rows of outputs are from probabilities."""
        if who not in self.inspected:
            return
        rows = ops.cast(outputs[:_INSPECTED], "float32")
        deviation = ops.abs(ops.sum(ops.abs(rows), axis=axis) - 1.0)
        entry = _select(_TEACHER if who == "teacher" else _STUDENT)
        report = ops.convert_to_tensor(self.report)
        self.report.assign(report * (1.0 - entry) + entry * ops.max(deviation))

    # ---- Outside of steps

    def deviation(self, who: str) -> float:
        """Returns how far inspected outputs are from probabilities."""
        report = ops.convert_to_numpy(ops.convert_to_tensor(self.report))
        return float(report[_TEACHER if who == "teacher" else _STUDENT])

    def keep(self, report) -> None:
        """Keeps the report of a step."""
        self._latest = report
        if self._unread is None:
            self._unread = report

    def read_if_free(self) -> None:
        """Reads a kept report if that does not wait for a device."""
        if self._unread is not None and is_free_to_read(self._unread):
            report, self._unread = self._unread, None
            self.read(report)

    def finish(self) -> None:
        """Reads the report of the last step, and waits for it."""
        report, self._latest, self._unread = self._latest, None, None
        if report is not None:
            self.read(report)

    def read(self, report) -> None:
        """Raises a `ValueError` or warns if the report has a reason."""
        report = ops.convert_to_numpy(report).reshape(-1, 5)[0]
        code = int(report[_CODE])
        if code == NOT_FINITE:
            raise ValueError(
                "The soft targets are not finite in batch "
                f"{int(report[_BATCH])} of this epoch (the first is 1): "
                f"{int(report[_ROWS])} of its samples or of the samples after "
                "it have soft targets with a NaN or an infinity. The student "
                "was not trained on them. Look at the inputs of the batch. A "
                "teacher in float16 overflows above 65504. A teacher that "
                "rules out classes has to use a finite logit, such as -1e9."
            )
        if code == DO_NOT_SERVE:
            raise ValueError(
                f"{OTHER_TARGETS}. The mass outside of the top k classes and "
                "the mean of an ensemble cannot be computed for another "
                "temperature: name it when you make the soft targets "
                "(`temperatures=...`). `SoftTargetStore.info()` lists the "
                "temperatures and classes of a store."
            )
        if code == NO_LABELS:
            raise ValueError(NEEDS_LABELS)
        if not self._warned:
            self._warned = True
            warn_of_probabilities("teacher", report[_TEACHER], _FIXES)
            warn_of_probabilities("student", report[_STUDENT], _FIXES)


def warn_of_probabilities(who: str, deviation, fixes: dict) -> None:
    """Warns if outputs that should be logits look like probabilities."""
    if 0 <= float(deviation) < 1e-2:
        warnings.warn(
            f"The {who}'s outputs look like probabilities (rows in [0, 1] that "
            f"sum to 1), but are taken for logits. {fixes[who]}, or remove the "
            f"softmax from the {who}.",
            stacklevel=2,
        )


def _select(entry):
    """Returns a report with 1 for one entry, and 0 for all others."""
    return ops.convert_to_tensor(np.eye(5, dtype="float32")[entry])


def _mask_inputs(x, rows):
    """Returns zeros for the samples where `rows` is False."""
    if (
        x is None
        or not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(x.dtype)
        )
        or not are_dense(x)
    ):
        # Only floating point numbers can be NaN.
        return x
    x = ops.convert_to_tensor(x)
    shape = (-1,) + (1,) * (len(x.shape) - 1)
    return ops.where(ops.reshape(rows, shape), x, ops.zeros_like(x))

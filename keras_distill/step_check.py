"""Soft targets that a step cannot train on: masked, counted and reported."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_distill.backend import is_free_to_read
from keras_distill.backend import keeping_variables
from keras_distill.backend import sum_over_replicas
from keras_distill.backend.keras_compat import is_sparse
from keras_distill.targets import CheckedTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.targets import flatten_outputs
from keras_distill.targets import is_float
from keras_distill.targets import map_outputs
from keras_distill.targets import mask_rows
from keras_distill.validation import WRONG_TARGETS_MESSAGE

NO_LABELS_MESSAGE = (
    "`alpha < 1` gives the labels a weight, but the data has no labels. To "
    "train on soft targets only, pass `loss=None` or `alpha=1.0` to `compile`. "
    "If only some examples have labels, give the rest the label -1 and the "
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
# The entries of the report of an epoch: the number of batches up to the first
# that is not finite, the number of such samples, whether soft targets are
# invalid and whether labels are missing, and how far outputs are from
# probabilities.
_BATCHES, _ROWS, WRONG_TARGETS, NO_LABELS, _TEACHER, _STUDENT = range(6)
# A few rows are enough to distinguish logits from probabilities.
_INSPECTED = 8


class StepCheck:
    """Masks, counts and reports soft targets that a step cannot train on.

    A compiled step cannot stop. It gives the samples in question no weight and
    records the first batch with such a sample in a report. The report is read
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
        # The models that may output probabilities.
        self.inspected = {"student", "teacher"}
        self.warned: set[str] = set()
        # The oldest report that has not been read.
        self._unread = None

    def _make_initial_report(self):
        # A negative deviation means that no outputs were inspected.
        return np.array([0, 0, 0, 0, -1, -1], "float32")

    def reset(self) -> None:
        """Starts the report of a new epoch."""
        # The teacher may have been inspected before the first epoch.
        kept = _select(_TEACHER) + _select(_STUDENT)
        self.report.assign(ops.convert_to_tensor(self.report) * kept)
        self._unread = None

    # ---- Inside of a step

    def mask(self, inputs, targets) -> WithSoftTargets:
        """Replaces samples with non-finite soft targets by zeros."""
        rows = None
        for target in flatten_outputs(targets):
            finite = target.are_finite()
            rows = finite if rows is None else ops.logical_and(rows, finite)
        count = ops.sum(ops.cast(ops.logical_not(rows), "float32"))
        count = sum_over_replicas(count)
        # The number of batches stays at the first that is not finite.
        none_before = ops.equal(self.report[_ROWS], 0)
        changes = [ops.cast(none_before, "float32"), count, 0.0, 0.0, 0.0, 0.0]
        self.report.assign_add(ops.stack(changes))
        inputs = keras.tree.map_structure(
            lambda x: _mask_input(x, rows), inputs
        )
        targets = map_outputs(lambda target: target.mask(rows), targets)
        return WithSoftTargets(inputs, CheckedTargets(targets, rows))

    def flag(self, entry: int, wrong) -> None:
        """Records that something is wrong with a batch, if `wrong` is true."""
        self.report.assign_add(_select(entry) * ops.cast(wrong, "float32"))

    def inspect(self, role: str, outputs, axis: int) -> None:
        """Records how far a few rows of outputs are from probabilities."""
        rows = ops.cast(outputs[:_INSPECTED], "float32")
        deviation = ops.abs(ops.sum(ops.abs(rows), axis=axis) - 1.0)
        entry = _select(_TEACHER if role == "teacher" else _STUDENT)
        report = ops.convert_to_tensor(self.report)
        # The deviation may be NaN, so it must not be multiplied.
        self.report.assign(ops.where(entry > 0, ops.max(deviation), report))

    # ---- Outside of steps

    def deviation(self, role: str) -> float:
        """Returns how far inspected outputs are from probabilities."""
        report = ops.convert_to_numpy(ops.convert_to_tensor(self.report))
        return float(report[_TEACHER if role == "teacher" else _STUDENT])

    @contextlib.contextmanager
    def cleaning_up(self, model):
        """Restores variables and starts a new report if an error escapes."""
        try:
            with keeping_variables(model):
                yield
        except BaseException:
            self._unread = None
            self.report.assign(self._make_initial_report())
            raise

    def keep(self, report) -> None:
        """Keeps the report of a step."""
        if self._unread is None:
            self._unread = report

    def read_if_free(self) -> None:
        """Reads a kept report if that does not wait for a device."""
        if self._unread is not None and is_free_to_read(self._unread):
            report, self._unread = self._unread, None
            self.read(report)

    def finish(self) -> None:
        """Reads the report of the last step, and waits for it."""
        self._unread = None
        try:
            self.read(ops.convert_to_tensor(self.report))
        except ValueError:
            self.reset()
            raise

    def read(self, report) -> None:
        """Raises a `ValueError` or warns if the report has a reason."""
        # A copy: PyTorch shares the memory of the variable.
        report = np.array(ops.convert_to_numpy(report)).reshape(-1, 6)[0]
        if report[_ROWS]:
            raise ValueError(
                "The soft targets are not finite in batch "
                f"{int(report[_BATCHES])} of this epoch (the first is 1): they "
                "contain a NaN or an infinity. The student was not trained on "
                f"these samples ({int(report[_ROWS])} so far). Check the "
                "inputs of the "
                "batch. A teacher in float16 overflows above 65504. A teacher "
                "that rules out classes has to use a finite logit, such as "
                "-1e9."
            )
        if report[WRONG_TARGETS]:
            raise ValueError(
                f"{WRONG_TARGETS_MESSAGE}. The mass outside of the top k "
                "classes and the mean of an ensemble cannot be computed for "
                "another temperature: pass it as `temperatures=...` when you "
                "create the soft targets. `SoftTargetStore.info()` lists the "
                "temperatures and classes of a store."
            )
        if report[NO_LABELS]:
            raise ValueError(NO_LABELS_MESSAGE)
        for role, entry in (("teacher", _TEACHER), ("student", _STUDENT)):
            if report[entry] >= 0 and role not in self.warned:
                self.warned.add(role)
                warn_of_probabilities(role, report[entry], _FIXES)


def warn_of_probabilities(role: str, deviation, fixes: dict) -> None:
    """Warns if outputs that should be logits look like probabilities."""
    if 0 <= float(deviation) < 1e-2:
        warnings.warn(
            f"The {role}'s outputs look like probabilities (rows in [0, 1] "
            f"that sum to 1), but are taken for logits. {fixes[role]}, or "
            f"remove the softmax from the {role}.",
            stacklevel=2,
        )


def _select(entry):
    """Returns a report with 1 for one entry, and 0 for all others."""
    return ops.convert_to_tensor(np.eye(6, dtype="float32")[entry])


def _mask_input(x, rows):
    """Returns zeros for the samples where `rows` is False."""
    if x is None or not is_float(x) or is_sparse(x):
        # Only floating point numbers can be NaN.
        return x
    return mask_rows(ops.convert_to_tensor(x), rows)

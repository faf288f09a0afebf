"""Checks of what the constructor and `compile` of the `Distiller` get."""

import warnings

import keras

from keras_distill.backend.keras_compat import find_loss_argument
from keras_distill.forward import ends_in_softmax
from keras_distill.forward import ends_linearly
from keras_distill.losses import DistillationLoss
from keras_distill.metrics import DistillationMetric

SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
_DENSE = ("categorical_crossentropy", "CategoricalCrossentropy")
_CROSSENTROPIES = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)
# Where to pass the arguments of other libraries.
_ARGUMENTS = {
    "alpha": "`compile(alpha=...)`",
    "student_loss_weight": "`compile(alpha=...)`, the weight of the teacher",
    "temperature": "the loss: `compile(distillation_loss=keras_distill.losses."
    "SoftTargetCrossentropy(temperature=...))`",
    "student_loss_fn": "`compile(loss=...)`",
    "student_loss": "`compile(loss=...)`",
    "distillation_loss_fn": "`compile(distillation_loss=...)`",
    "distillation_losses": "`compile(distillation_loss=[...])`",
}


def check_unknown_arguments(args: tuple, kwargs: dict) -> None:
    """Raises a `TypeError` for positional and unknown arguments."""
    if args:
        raise TypeError(
            "Expected keyword arguments, because other libraries have another "
            "order: `Distiller(student=..., teacher=...)`. "
            f"Received: {len(args)} positional argument(s)"
        )
    for name, value in kwargs.items():
        place = _ARGUMENTS.get(name)
        hint = f" Pass it to {place}." if place else ""
        raise TypeError(
            f"Unknown argument `{name}`.{hint} Received: {name}={value!r}"
        )


def check_student(student) -> None:
    """Raises unless it is a model, and warns about a custom step."""
    if not isinstance(student, keras.Model):
        raise ValueError(
            "Expected `student` to be a `keras.Model`. "
            f"Received: student={student!r}"
        )
    if hasattr(type(student), "distillation_loss"):
        raise ValueError(
            "Expected `student` to be the model itself: `distiller.student`. "
            f"Received: student={student!r}"
        )
    if any(
        getattr(type(student), name) is not getattr(keras.Model, name)
        for name in ("train_step", "compute_loss")
    ):
        warnings.warn(
            "The student has its own `train_step` or `compute_loss`. A "
            "`Distiller` ignores them and uses those of `keras.Model`.",
            stacklevel=3,
        )


def check_no_distillation_metrics(*metrics) -> None:
    """Raises if a distillation metric is among those that get the labels."""
    for metric in keras.tree.flatten(metrics):
        if isinstance(metric, DistillationMetric):
            raise ValueError(
                "Pass metrics that compare the student with its teacher as "
                "`distillation_metrics`. `metrics` get the labels. "
                f"Received: metrics with {type(metric).__name__}"
            )


def check_hard_loss(loss, metrics, student) -> None:
    """Raises for a distillation loss, and warns if a softmax is misplaced."""
    for output_loss in keras.tree.flatten(loss):
        if isinstance(output_loss, DistillationLoss):
            raise ValueError(
                "`loss` compares with the labels. Pass a loss that compares "
                "with the teacher as `distillation_loss`. Received: loss="
                f"{type(output_loss).__name__}"
            )
    if _takes_probabilities(loss) and ends_linearly(student):
        warnings.warn(
            "The hard loss takes the student's outputs for probabilities, and "
            "the student ends in a layer without an activation. Pass "
            "`loss=keras.losses.SparseCategoricalCrossentropy("
            "from_logits=True)`, or end the student in a softmax.",
            stacklevel=3,
        )
    for metric in keras.tree.flatten(metrics):
        if getattr(metric, "from_logits", False) and ends_in_softmax(student):
            warnings.warn(
                f"The metric {metric.name!r} takes the student's outputs for "
                "logits, and the student ends in a softmax. Pass "
                "`from_logits=False` to the metric.",
                stacklevel=3,
            )


def _takes_probabilities(loss) -> bool:
    if isinstance(loss, str):
        return loss in (*SPARSE, *_DENSE)
    return isinstance(loss, _CROSSENTROPIES) and not find_loss_argument(
        loss, "from_logits"
    )

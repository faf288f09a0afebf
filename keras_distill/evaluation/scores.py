"""The scores of models on a test set."""

import typing
import warnings

import keras
import numpy as np
from keras import ops

from keras_distill.metrics import ExpectedCalibrationError
from keras_distill.metrics import TeacherAgreement
from keras_distill.metrics import TeacherKLDivergence
from keras_distill.metrics.label_metric import to_class_ids
from keras_distill.validation import check_class_ids
from keras_distill.validation import may_be_probabilities


class Scores:
    """Sums up the scores of one model over batches."""

    def __init__(self, temperature: float, num_bins: int, has_teacher: bool):
        self._calibration = ExpectedCalibrationError(num_bins)
        self._teacher_metrics = (
            [TeacherAgreement(), TeacherKLDivergence(temperature)]
            if has_teacher
            else []
        )
        self._correct: list[np.ndarray] = []

    def update(self, labels, logits, teacher_logits) -> None:
        """Adds a batch. The first logits are served, and the last softened."""
        self._calibration.update_state(labels, logits[0])
        if self._teacher_metrics:
            agreement, divergence = self._teacher_metrics
            agreement.update_state(teacher_logits[0], logits[0])
            divergence.update_state(teacher_logits[-1], logits[-1])
        served = ops.convert_to_numpy(logits[0])
        # With a NaN there is no most likely class, so it counts as an error.
        has_class = ~np.isnan(served).any(axis=-1)
        correct = has_class & (np.argmax(served, axis=-1) == labels)
        self._correct.append(correct.ravel())

    def get_correct(self) -> np.ndarray:
        """Returns a boolean array: which examples the model gets right."""
        return np.concatenate(self._correct or [np.zeros(0, bool)])

    def compute_results(self) -> dict[str, typing.Any]:
        """Returns the fields of `ModelReport` that come from the data."""
        from scipy import stats

        correct = self.get_correct()
        test = stats.binomtest(int(correct.sum()), len(correct))
        lower, upper = test.proportion_ci(0.95, method="wilson")
        agreement, divergence = [
            float(metric.result()) for metric in self._teacher_metrics
        ] or (None, None)
        return {
            "errors": int(np.sum(~correct)),
            "accuracy": float(np.mean(correct)),
            "accuracy_interval": (float(lower), float(upper)),
            "teacher_agreement": agreement,
            "teacher_kl_divergence": divergence,
            "expected_calibration_error": float(self._calibration.result()),
        }


def score_batches(
    scores: dict[str, Scores],
    functions: dict,
    batches: typing.Iterable,
    teacher: str | None,
    ignore_class: int | None,
):
    """Adds all batches to `scores`, and returns the inputs of the first."""
    first_inputs: typing.Any = None
    for batch in batches:
        x, y = _unpack(batch)
        outputs = {name: function(x) for name, function in functions.items()}
        logits = {name: output[0] for name, output in outputs.items()}
        if first_inputs is None:
            first_inputs = keras.tree.map_structure(ops.convert_to_numpy, x)
            _check_logits({name: z[0] for name, z in logits.items()})
        example_logits = next(iter(logits.values()))[0]
        labels = ops.convert_to_numpy(to_class_ids(y, example_logits))
        masks = [mask for _, mask in outputs.values() if mask is not None]
        counted = np.logical_and.reduce(
            [labels != ignore_class, *map(ops.convert_to_numpy, masks)]
        )
        if not counted.any():
            continue
        if not counted.all():
            labels = labels[counted]
            logits = {
                name: [ops.convert_to_numpy(z)[counted] for z in model_logits]
                for name, model_logits in logits.items()
            }
        check_class_ids(labels, example_logits.shape[-1])
        for name, model_scores in scores.items():
            model_scores.update(labels, logits[name], logits.get(teacher))
    return first_inputs


def _unpack(batch) -> tuple:
    """Returns the inputs and labels of a batch."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(batch))
    if y is None:
        raise ValueError(
            "Expected data with labels, `(x, y)`. Received: inputs only"
        )
    if keras.tree.is_nested(y):
        raise ValueError(
            "Expected the labels of one output. Received: "
            f"{keras.tree.map_structure(lambda labels: labels.shape, y)}"
        )
    if sample_weight is not None:
        raise ValueError(
            "Expected data `(x, y)` without sample weights, because every "
            "example counts once. Received: data with sample weights"
        )
    return x, y


def _check_logits(logits) -> None:
    """Checks the logits of all models for the first batch."""
    shapes = {name: tuple(output.shape) for name, output in logits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "Expected the outputs of all models to have the same shape, with "
            f"the same number of classes. Received: {shapes}"
        )
    for name, output in logits.items():
        if may_be_probabilities(ops.convert_to_numpy(output)):
            warnings.warn(
                f"The outputs of {name!r} look like probabilities, but no "
                "softmax was found in the model, so they are used as logits. "
                "Pass `from_logits=False` if they are probabilities.",
                stacklevel=4,
            )

"""Labels of a transfer set: checked, weighed, and left out where missing."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_distill.backend import CHECKS_LABELS
from keras_distill.backend import check_finite
from keras_distill.backend.keras_internals import can_convert_arrays
from keras_distill.backend.keras_internals import find_loss_argument
from keras_distill.backend.keras_internals import get_keras_mask
from keras_distill.backend.keras_internals import set_keras_mask
from keras_distill.logits import ends_linearly
from keras_distill.losses import DistillationLoss
from keras_distill.outputs import name_outputs
from keras_distill.transfer.targets import unpack_targets

# What TensorFlow says of such a label begins like this.
NO_CLASS = "label value which is outside the valid range"
_SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
_OF_PROBABILITIES = (
    *_SPARSE,
    "categorical_crossentropy",
    "CategoricalCrossentropy",
)


def check_inputs(x, y):
    """Refuses what is no data, or none at all.

    Args:
        x: The argument of `fit`.
        y: The argument of `fit`.

    Raises:
        ValueError: If a store is passed for the data, or there are no
            examples.
    """
    for argument, data in (("x", x), ("y", unpack_targets(y)[1])):
        if hasattr(data, "attach") and hasattr(data, "info"):
            raise ValueError(
                "A `SoftTargetStore` holds soft targets and no inputs: pass "
                "`store.attach(dataset)` to `fit`, or `store[:]` as the soft "
                f"targets of arrays. Received: {argument}={data!r}"
            )
    if can_convert_arrays(x) and keras.tree.flatten(x)[0].shape[0] == 0:
        raise ValueError("Expected at least one example. Received: x of 0")


def check_validation(validation_data, validation_split, y, uses_labels):
    """Refuses a validation with nothing in it, before an epoch is trained.

    Args:
        validation_data: The argument of `fit`.
        validation_split: The argument of `fit`.
        y: The argument of `fit`.
        uses_labels: Whether labels are compared with anything.

    Raises:
        ValueError: If there would be nothing to evaluate.
    """
    if validation_data is not None:
        y = _find_y(validation_data)
    elif not validation_split:
        return
    if y is _UNKNOWN:
        return
    labels, soft_targets = unpack_targets(y)
    if soft_targets is not None:
        return
    if labels is None:
        raise ValueError(
            "Expected `validation_data` with labels, `(x, y)`; without them "
            "only `distillation_metrics` can be evaluated. Received: inputs "
            "only"
        )
    if not uses_labels:
        raise ValueError(
            "There is nothing to evaluate: pass a `loss`, `metrics` or "
            "`distillation_metrics` to `compile`, or no validation to `fit`. "
            "Received: loss=None"
        )


_UNKNOWN = object()


def _find_y(data):
    """Returns what a batch of data has beside inputs, if that can be told."""
    # Of a `tf.data.Dataset` it is known what a batch is.
    batch = getattr(data, "element_spec", data)
    if isinstance(batch, tuple):
        return batch[1] if len(batch) > 1 else None
    if batch is not data or can_convert_arrays(batch):
        return None
    return _UNKNOWN


def check_hard_loss(loss, student):
    """Refuses a distillation loss, and warns of a softmax that is missing.

    Args:
        loss: The hard loss, as given to `compile`.
        student: `keras.Model`.

    Raises:
        ValueError: If the hard loss is a distillation loss.
    """
    for each in keras.tree.flatten(loss):
        if isinstance(each, DistillationLoss):
            raise ValueError(
                "`loss` compares with the labels; what compares with the "
                "teacher goes to `distillation_loss`. Received: loss="
                f"{type(each).__name__}"
            )
    if _takes_probabilities(loss) and ends_linearly(student):
        warnings.warn(
            "The hard loss takes the student's outputs for probabilities, and "
            "the student ends in a layer without an activation. Pass "
            "`loss=keras.losses.SparseCategoricalCrossentropy("
            "from_logits=True)`, or end the student in a softmax.",
            stacklevel=3,
        )


def _is_sparse(loss):
    """Whether a loss takes class ids."""
    if isinstance(loss, str):
        return loss in _SPARSE
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy)


def _takes_probabilities(loss):
    if isinstance(loss, str):
        return loss in _OF_PROBABILITIES
    return isinstance(
        loss,
        (
            keras.losses.CategoricalCrossentropy,
            keras.losses.SparseCategoricalCrossentropy,
        ),
    ) and not find_loss_argument(loss, "from_logits")


def check_labels(y, loss, student):
    """Refuses class ids that no output of the student stands for.

    Looks at one array of labels; in a dataset, TensorFlow finds them when it
    gets there.

    Args:
        y: The argument of `fit`.
        loss: The hard loss, as given to `compile`.
        student: `keras.Model`.

    Raises:
        ValueError: If the loss takes class ids, and one of them is outside of
            `[0, classes)` and is not its `ignore_class`.
    """
    labels, _ = unpack_targets(y)
    outputs = getattr(student, "outputs", None)
    if (
        not _is_sparse(loss)
        or labels is None
        or keras.tree.is_nested(labels)
        or outputs is None
        or len(outputs) > 1
    ):
        return
    labels = np.asarray(ops.convert_to_numpy(labels))
    classes = outputs[0].shape[find_loss_argument(loss, "axis", -1)]
    if labels.dtype.kind not in "iufb" or np.any(labels != np.round(labels)):
        raise ValueError(
            f"Expected labels to be integers from 0 to {classes - 1}. "
            f"Received: labels of dtype {labels.dtype}, such as "
            f"{labels.flat[0]!r}"
        )
    ignored = find_loss_argument(loss, "ignore_class")
    if ignored is not None:
        labels = labels[labels != ignored]
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        wrong = outside.flat[0]
        hint = (
            "Where -1 marks an example without a label, use a loss with "
            "`ignore_class=-1`. "
            if wrong == -1
            else ""
        )
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}: the student has "
            f"{classes} classes. {hint}Received: a label of {wrong:g}"
        )


def require_classes(labels, y_pred, loss, output_names):
    """Stops a step at a label that is no class, on backends that do not.

    Args:
        labels: Labels of a batch, for one or several outputs.
        y_pred: The student's outputs.
        loss: The hard loss or losses, as given to `compile`.
        output_names: The names of the student's outputs, or `None`.

    Raises:
        NumericsError: As `check_finite` does.
    """
    if CHECKS_LABELS:
        return
    for output, loss_of_output, labels_of_output in _list_outputs(
        labels, y_pred, loss, output_names
    ):
        if not _is_sparse(loss_of_output) or labels_of_output is None:
            continue
        classes = output.shape[find_loss_argument(loss_of_output, "axis", -1)]
        known = ops.logical_and(
            labels_of_output >= 0, labels_of_output < classes
        )
        ignored = find_loss_argument(loss_of_output, "ignore_class")
        if ignored is not None:
            known = ops.logical_or(known, labels_of_output == ignored)
        check_finite(ops.where(ops.all(known), 0.0, np.nan), NO_CLASS)


def weigh_classes(labels, sample_weight, class_weight):
    """Turns class weights into sample weights, inside of a training step.

    Keras does so outside of it, for one array of labels; labels that travel
    with soft targets it refuses.

    Args:
        labels: Labels of a batch: class ids of shape `(batch,)` or
            `(batch, 1)`, or one-hot of shape `(batch, classes)`.
        sample_weight: Weights of the samples, which have to be `None`: as in
            Keras, the two do not go together.
        class_weight: Dict from class ids to weights; others have weight 1.

    Returns:
        Tensor of shape `(batch,)`.

    Raises:
        ValueError: If there are no labels, those of several outputs, or
            sample weights.
    """
    if labels is None or keras.tree.is_nested(labels):
        raise ValueError(
            "`class_weight` needs the labels of one output. Received: "
            f"class_weight={class_weight}, labels={labels}"
        )
    if sample_weight is not None:
        raise ValueError(
            "Pass `class_weight` or `sample_weight`, not both. Received: "
            f"class_weight={class_weight}, and data with sample weights"
        )
    if len(labels.shape) > 1:
        one_hot = labels.shape[-1] != 1
        labels = ops.argmax(labels, -1) if one_hot else ops.squeeze(labels, -1)
    labels = ops.cast(labels, "int32")
    largest = max(class_weight, default=-1)
    # One more entry, for all classes that are not in the dict.
    weights = np.ones(largest + 2, keras.config.floatx())
    for label, weight in class_weight.items():
        weights[label] = weight
    known = ops.logical_and(labels >= 0, labels <= largest)
    return ops.take(weights, ops.where(known, labels, largest + 1), axis=0)


def mask_unlabelled(labels, y_pred, loss, output_names):
    """Hides examples without a label from the metrics.

    The losses of Keras skip the labels that are `ignore_class`, its metrics do
    not: accuracy would count each of them as an error.

    Args:
        labels: Labels of a batch, for one or several outputs.
        y_pred: The student's outputs, whose Keras masks are changed.
        loss: The hard loss or losses, as given to `compile`.
        output_names: The names of the student's outputs, or `None`.
    """
    for output, loss_of_output, labels_of_output in _list_outputs(
        labels, y_pred, loss, output_names
    ):
        ignored = find_loss_argument(loss_of_output, "ignore_class")
        if ignored is not None and labels_of_output is not None:
            _mask(output, labels_of_output, ignored)


def _list_outputs(labels, y_pred, loss, output_names):
    """Lists `(output, loss, labels)` for each output, `None` what is not."""
    names = name_outputs(y_pred, output_names)
    return zip(
        keras.tree.flatten(y_pred),
        _spread(loss, names),
        _spread(labels, names),
        strict=True,
    )


def _spread(structure, names):
    """Returns what belongs to each output, in the ways Keras allows."""
    if isinstance(structure, dict):
        return [structure.get(name) for name in names]
    if isinstance(structure, (list, tuple)):
        flat = keras.tree.flatten(structure)
        return flat if len(flat) == len(names) else [None] * len(names)
    return [structure] * len(names)


def _mask(output, labels, ignored):
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == len(output.shape):
        labels = ops.squeeze(labels, axis=-1)
    mask = ops.not_equal(labels, ops.cast(ignored, labels.dtype))
    former = get_keras_mask(output)
    if former is not None:
        mask = ops.logical_and(mask, former)
    set_keras_mask(output, mask)

"""Data that enters `fit` and `evaluate`: normalized and checked once."""

import numbers
import typing

import keras
import numpy as np
from keras import ops

from keras_distill.backend.keras_compat import can_convert_arrays
from keras_distill.backend.keras_compat import find_loss_argument
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import set_keras_mask
from keras_distill.compile_checks import SPARSE
from keras_distill.forward import first_tensor
from keras_distill.forward import list_outputs
from keras_distill.outputs import name_outputs
from keras_distill.targets import WithSoftTargets
from keras_distill.validation import check_class_ids
from keras_distill.validation import check_given
from keras_distill.validation import check_integer


class Unlabelled(typing.NamedTuple):
    """Hides that labels are missing: Keras drops sample weights without `y`.

    It contains the sample weights; and in place of the labels, zeros.
    """

    parts: typing.Any


def parse_soft_targets(x, y, soft_targets, objective):
    """Returns `x` with the argument `soft_targets` of `fit` or `evaluate`."""
    for argument, data in (("x", x), ("y", y), ("soft_targets", soft_targets)):
        if hasattr(data, "attach") and hasattr(data, "info"):
            raise ValueError(
                "A `SoftTargetStore` contains soft targets and no inputs: pass "
                "`store.attach(dataset)` to `fit`, or `store[:]` as the "
                f"`soft_targets` of arrays. Received: {argument}={data!r}"
            )
    check_not_packed(y, objective.output_names)
    check_given(x=x)
    if can_convert_arrays(x):
        arrays = [a for a in keras.tree.flatten(x) if a is not None]
        if not arrays or arrays[0].shape[:1] in ((), (0,)):
            raise ValueError(
                "Expected at least one example in `x`. Received: "
                f"{f'shape {arrays[0].shape}' if arrays else repr(x)}"
            )
    if soft_targets is None:
        return x
    if isinstance(x, WithSoftTargets):
        raise ValueError(
            "Expected the soft targets once. Received: x of type "
            "WithSoftTargets, and soft_targets"
        )
    if not can_convert_arrays(x):
        raise ValueError(
            "`soft_targets` needs arrays. In a dataset, the elements are "
            "`(keras_distill.WithSoftTargets(x, logits), y)`. Received: x of "
            f"type {type(x).__name__}"
        )
    return WithSoftTargets(x, soft_targets)


def check_fit(batch_size, class_weight, sample_weight, student) -> None:
    """Raises for arguments of `fit` that Keras misunderstands."""
    if batch_size is not None:
        check_integer("batch_size", batch_size, low=1)
    if class_weight is not None and (
        not isinstance(class_weight, dict)
        or not all(
            isinstance(part, numbers.Real)
            for item in class_weight.items()
            for part in item
        )
    ):
        raise ValueError(
            "Expected `class_weight` to be a dict from class ids to numbers. "
            f"Received: class_weight={class_weight!r}"
        )
    outputs = list_outputs(student)
    shape: tuple[int, ...] = tuple(getattr(sample_weight, "shape", ()))
    if (
        len(outputs) == 1
        and len(shape) == len(outputs[0].shape) > 1
        and shape[-1] != 1
    ):
        raise ValueError(
            "Expected `sample_weight` with a number for each sample, or for "
            f"each position. Received: shape {shape}, for outputs of shape "
            f"{tuple(outputs[0].shape)}"
        )


def keep_weights(x, y, sample_weight):
    """Returns labels and sample weights that Keras does not drop."""
    if sample_weight is None or y is not None or not can_convert_arrays(x):
        return y, sample_weight
    count = first_tensor(x).shape[0]
    labels = keras.tree.map_structure(
        lambda weights: np.zeros(count, "int8"), sample_weight
    )
    return Unlabelled(labels), Unlabelled(sample_weight)


def normalize_validation(validation_data):
    """Returns `validation_data` as Keras unpacks it correctly."""
    if isinstance(validation_data, WithSoftTargets):
        return (validation_data,)
    if not isinstance(validation_data, (list, tuple)):
        return validation_data
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
        tuple(validation_data)
    )
    y, sample_weight = keep_weights(x, y, sample_weight)
    return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)


def check_not_packed(y, output_names) -> None:
    """Raises a `ValueError` if `y` contains soft targets."""
    name = "soft_targets"
    if isinstance(y, dict) and name in y and name not in (output_names or ()):
        raise ValueError(
            "Pass soft targets beside the inputs and not in `y`: "
            "`fit(x, y, soft_targets=logits)` for arrays, and elements "
            "`(keras_distill.WithSoftTargets(x, logits), y)` in a dataset. "
            f"Received: y with the keys {sorted(y)}"
        )


def check_validation(
    validation_data, validation_split, x, y, objective, uses_labels
) -> None:
    """Raises before the training if a validation has nothing to evaluate."""
    if objective.has_metrics:
        # They need no labels.
        return
    if validation_data is not None:
        # A `tf.data.Dataset` knows the structure of a batch.
        batch = getattr(validation_data, "element_spec", validation_data)
        is_known = isinstance(batch, tuple) or can_convert_arrays(batch)
        if isinstance(batch, WithSoftTargets) or (
            batch is validation_data and not is_known
        ):
            return
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    elif not validation_split or not can_convert_arrays(x):
        # Keras raises an error for a dataset.
        return
    if isinstance(x, WithSoftTargets):
        return
    check_not_packed(y, objective.output_names)
    if y is None or isinstance(y, Unlabelled):
        raise ValueError(
            "Expected `validation_data` with labels, `(x, y)`. Without labels "
            "only `distillation_metrics` can be evaluated. Received: inputs "
            "only"
        )
    if not uses_labels:
        raise ValueError(
            "There is nothing to evaluate: pass a `loss`, `metrics` or "
            "`distillation_metrics` to `compile`, or no validation to `fit`. "
            "Received: loss=None"
        )


def check_labels(labels, loss, student) -> None:
    """Raises if an array contains class ids that the student does not have."""
    # In a dataset, only the backend can find a wrong label, and not all do.
    outputs = list_outputs(student)
    takes_class_ids = (
        loss in SPARSE
        if isinstance(loss, str)
        else isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    )
    if (
        not takes_class_ids
        or labels is None
        or keras.tree.is_nested(labels)
        or len(outputs) != 1
    ):
        return
    classes = outputs[0].shape[find_loss_argument(loss, "axis", -1)]
    if classes is None:
        return
    labels = np.asarray(ops.convert_to_numpy(labels))
    if labels.shape[1:] == tuple(outputs[0].shape[1:]):
        raise ValueError(
            "Expected labels to be class ids for a sparse crossentropy. "
            "For one-hot labels, use `keras.losses.CategoricalCrossentropy`. "
            f"Received: labels of shape {labels.shape}"
        )
    ignored = find_loss_argument(loss, "ignore_class")
    if ignored is not None:
        labels = labels[labels != ignored]
    hint = f"The student has {classes} classes. "
    if labels.dtype.kind in "iuf" and np.any(labels == -1):
        hint += (
            "If -1 marks an example without a label, use a loss with "
            "`ignore_class=-1`. "
        )
    check_class_ids(labels, classes, hint)


def ignores_labels(loss) -> bool:
    """Whether a hard loss skips some labels."""
    return any(
        find_loss_argument(output_loss, "ignore_class") is not None
        for output_loss in keras.tree.flatten(loss)
    )


def mask_unlabelled(labels, outputs, loss, output_names) -> None:
    """Masks examples without a label: metrics do not know `ignore_class`."""
    names = name_outputs(outputs, output_names)
    for output, output_loss, output_labels in zip(
        keras.tree.flatten(outputs),
        _broadcast(loss, names),
        _broadcast(labels, names),
        strict=True,
    ):
        ignored = find_loss_argument(output_loss, "ignore_class")
        if ignored is None or output_labels is None:
            continue
        output_labels = ops.convert_to_tensor(output_labels)
        if len(output_labels.shape) == len(output.shape):
            output_labels = ops.squeeze(output_labels, axis=-1)
        mask = ops.not_equal(
            output_labels, ops.cast(ignored, output_labels.dtype)
        )
        former = get_keras_mask(output)
        if former is not None:
            mask = ops.logical_and(mask, former)
        set_keras_mask(output, mask)


def _broadcast(structure, names) -> list:
    """Returns the entry of each output, in the forms that Keras allows."""
    if isinstance(structure, dict):
        return [structure.get(name) for name in names]
    if isinstance(structure, (list, tuple)):
        flat = keras.tree.flatten(structure)
        return flat if len(flat) == len(names) else [None] * len(names)
    return [structure] * len(names)

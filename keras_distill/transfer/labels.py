"""Labels of a transfer set: checked, weighed, and left out where missing."""

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask

from keras_distill.transfer.targets import unpack_targets

_SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")


def check_labels(y, loss, student):
    """Refuses class ids that no output of the student stands for.

    Looks at arrays; in a dataset, TensorFlow finds them when it gets there.

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
    sparse = loss in _SPARSE if isinstance(loss, str) else _is_sparse(loss)
    if not sparse or labels is None or outputs is None or len(outputs) > 1:
        return
    labels = np.asarray(ops.convert_to_numpy(labels))
    classes = outputs[0].shape[-1]
    ignored = getattr(loss, "ignore_class", None)
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


def weigh_classes(y, sample_weight, class_weight):
    """Turns `class_weight` into `sample_weight` where Keras would refuse to.

    Keras applies class weights to a single array of labels, not to labels that
    travel with soft targets.

    Args:
        y: The argument of `fit`.
        sample_weight: The argument of `fit`.
        class_weight: The argument of `fit`.

    Returns:
        The new `(sample_weight, class_weight)`.

    Raises:
        ValueError: If there are no labels, or weights of both kinds.
    """
    labels, soft_targets = unpack_targets(y)
    if class_weight is None or soft_targets is None:
        return sample_weight, class_weight
    if labels is None or sample_weight is not None:
        raise ValueError(
            "`class_weight` needs labels, and no `sample_weight` beside it. "
            f"Received: class_weight={class_weight}, "
            f"labels={'None' if labels is None else 'given'}, "
            f"sample_weight={'None' if sample_weight is None else 'given'}"
        )
    labels = np.asarray(ops.convert_to_numpy(labels))
    if labels.ndim > 1:
        one_hot = labels.shape[-1] > 1
        labels = labels.argmax(-1) if one_hot else labels.squeeze(-1)
    classes, positions = np.unique(labels, return_inverse=True)
    weights = [class_weight.get(int(label), 1.0) for label in classes]
    return np.asarray(weights, "float32")[positions], None


def mask_unlabelled(labels, y_pred, loss):
    """Hides examples without a label from the metrics.

    The losses of Keras skip the labels that are `ignore_class`, its metrics do
    not: accuracy would count each of them as an error.

    Args:
        labels: Labels of a batch.
        y_pred: The student's outputs, whose Keras mask is changed.
        loss: The hard loss, as given to `compile`.
    """
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or keras.tree.is_nested(y_pred):
        return
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, axis=-1)
    mask = ops.not_equal(labels, ops.cast(ignored, labels.dtype))
    former = get_keras_mask(y_pred)
    if former is not None:
        mask = ops.logical_and(mask, former)
    set_keras_mask(y_pred, mask)


def _is_sparse(loss):
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

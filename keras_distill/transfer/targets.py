"""Labels and soft targets that travel together as one `y`.

A batch has one `y`. Inside the `Distiller`, and in data that brings its own
soft targets, it is a dict: `{"labels": ..., "soft_targets": ...}`, or
`{"soft_targets": ...}` where there are no labels.
"""

import keras

from keras_distill.outputs import flatten_like
from keras_distill.soft_targets import is_compound
from keras_distill.soft_targets import map_outputs


def pack_targets(labels, soft_targets):
    """Returns one `y` from the labels (or `None`) and the soft targets.

    Raises:
        ValueError: If there are soft targets beside the labels already.
    """
    if _is_packed(labels):
        raise ValueError(
            "Expected data without soft targets, to join them to. Received: "
            f"`y` with the keys {sorted(labels)}"
        )
    if labels is None:
        return {"soft_targets": soft_targets}
    return {"labels": labels, "soft_targets": soft_targets}


def unpack_targets(y):
    """Returns `(labels, soft_targets)`; what `y` does not hold is `None`.

    Args:
        y: A dict as from `pack_targets`, or labels alone.
    """
    if _is_packed(y):
        return y.get("labels"), y["soft_targets"]
    return y, None


def unpack_weights(sample_weight):
    """Returns the weights for the labels and those for the soft targets.

    Args:
        sample_weight: Weights for both. Keras repeats the weights of an array
            for each part of a structured `y`: then a dict like `y`.
    """
    if _is_packed(sample_weight):
        # One for each tensor of what belongs to an output: the same.
        soft = _one_of_each(sample_weight["soft_targets"])
        return sample_weight.get("labels"), soft
    return sample_weight, sample_weight


def match_weights(y, sample_weight=None):
    """Returns sample weights that Keras will not drop or refuse.

    Args:
        y: The argument of `fit` or `evaluate`.
        sample_weight: The argument of `fit` or `evaluate`.

    Raises:
        ValueError: If there is no `y` that they could weigh, or they are not
            one for each output.
    """
    if sample_weight is None:
        return None
    if y is None:
        raise ValueError(
            "Keras drops `sample_weight` where there is no `y`. With "
            "`loss=None` any `y` will do, as it is not used. Received: y=None, "
            "sample_weight given"
        )
    if not _is_packed(y) or _is_packed(sample_weight):
        return sample_weight
    if not keras.tree.is_nested(sample_weight):
        # Keras does so too, but not for one weight per time step.
        return keras.tree.map_structure(lambda _: sample_weight, y)
    repeated = _repeat(sample_weight, y["soft_targets"])
    if "labels" not in y:
        return {"soft_targets": repeated}
    return {"labels": sample_weight, "soft_targets": repeated}


def check_keys(y, output_names):
    """Refuses a dict that is meant to hold soft targets, and does not.

    Args:
        y: The targets of a batch.
        output_names: Names of the student's outputs, or `None`.

    Raises:
        ValueError: If only a part of the keys is known.
    """
    if isinstance(y, dict) and not _is_packed(y):
        keys = set(y)
        if keys & {"labels", "soft_targets"} and not keys <= set(
            output_names or ()
        ):
            raise ValueError(
                'Expected `y` to have the keys "soft_targets" and, where there '
                f'are labels, "labels". Received: {sorted(keys)}'
            )


def _is_packed(y):
    return (
        isinstance(y, dict)
        and "soft_targets" in y
        and set(y) <= {"labels", "soft_targets"}
    )


def _repeat(weights, soft_targets):
    """Returns the weights of each output for each tensor of its soft targets.

    Args:
        weights: Structure of arrays, one for each output.
        soft_targets: Structure of what belongs to each output.

    Raises:
        ValueError: If they are of different structures.
    """
    flat = iter(flatten_like(_one_of_each(soft_targets), sample_weight=weights))

    def repeat(soft_target):
        weight = next(flat)
        return keras.tree.map_structure(lambda _: weight, soft_target)

    return map_outputs(repeat, soft_targets)


def _one_of_each(soft_targets):
    """Returns one tensor of what belongs to each output."""
    return map_outputs(
        lambda node: node[0] if is_compound(node) else node, soft_targets
    )

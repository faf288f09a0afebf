"""Models with one output, a list of them, or a dict."""

import keras


def shapes_agree(first, second):
    """Whether two shapes are equal, as far as their sizes are known."""
    return len(first) == len(second) and all(
        None in (a, b) or a == b for a, b in zip(first, second, strict=True)
    )


def name_outputs(outputs, output_names=None):
    """Returns a name for each output, in flat order.

    Args:
        outputs: One tensor, or a list or dict of them.
        output_names: The names that the model itself gives, or `None`.
    """
    if isinstance(outputs, dict):
        # The order in which Keras flattens a dict.
        return sorted(outputs)
    count = len(keras.tree.flatten(outputs))
    if output_names and len(output_names) == count:
        return list(output_names)
    return [f"output_{position}" for position in range(count)]


def find_output_names(model):
    """Returns the names of a model's outputs before it has been called.

    Args:
        model: `keras.Model`.

    Returns:
        List of names as from `name_outputs`, or `None` where the outputs are
        not known.
    """
    if not getattr(model, "outputs", None):
        return None
    # `outputs` is flat; `output` has the structure, where a model has it.
    structure = getattr(model, "output", model.outputs)
    return name_outputs(structure, getattr(model, "output_names", None))


def flatten_like(outputs, **named):
    """Returns what belongs to the outputs as a flat list in their order.

    Args:
        outputs: The student's outputs.
        **named: One structure of tensors, under its name.

    Raises:
        ValueError: If it has not one tensor for each of the outputs.
    """
    ((name, structure),) = named.items()
    as_dicts = [isinstance(each, dict) for each in (structure, outputs)]
    flat = keras.tree.flatten(structure)
    if (
        len(flat) != len(keras.tree.flatten(outputs))
        or any(as_dicts) != all(as_dicts)
        or (all(as_dicts) and set(structure) != set(outputs))
    ):
        raise ValueError(
            f"Expected `{name}` to have the structure of the student's "
            f"outputs, {_describe(outputs)}. Received: {_describe(structure)}"
        )
    return flat


def _describe(structure):
    return keras.tree.map_structure(lambda x: tuple(x.shape), structure)

"""Models with one output, a list of them, or a dict."""

import keras

from keras_distill.soft_targets import map_outputs


def shapes_agree(first, second):
    """Whether two shapes are equal, as far as their sizes are known."""
    return len(first) == len(second) and all(
        None in (a, b) or a == b for a, b in zip(first, second, strict=True)
    )


def name_outputs(outputs, output_names=None):
    """Returns a name for each output, in flat order.

    Args:
        outputs: One tensor, or a structure of them. The names of those in a
            dict are its keys.
        output_names: The names that the model itself gives, or `None`.
    """
    paths = [path for path, _ in keras.tree.flatten_with_path(outputs)]
    if not isinstance(outputs, dict):
        if output_names and len(output_names) == len(paths):
            return list(output_names)
        paths = [("output", *(path or [0])) for path in paths]
        return ["_".join(map(str, path)) for path in paths]
    return ["/".join(map(str, path)) for path in paths]


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


def spread(entries, output_names, argument):
    """Returns what an argument of `compile` has for each output.

    Args:
        entries: One entry, which is for every output; a dict of the outputs'
            names; or a list with an entry for each. With one output a list is
            one entry.
        output_names: One name for each output, in flat order.
        argument: Name of the argument, for the messages.

    Returns:
        List of one entry for each output, `None` where there is none.

    Raises:
        ValueError: If the entries do not fit the outputs.
    """
    count = len(output_names)
    if isinstance(entries, dict):
        unknown = sorted(set(entries) - set(output_names))
        if unknown:
            raise ValueError(
                f"The keys of `{argument}` have to be names of the student's "
                f"outputs, {sorted(output_names)}. Received: {unknown}"
            )
        return [entries.get(name) for name in output_names]
    if count == 1 or not isinstance(entries, (list, tuple)):
        return [entries] * count
    if len(entries) != count:
        raise ValueError(
            f"The student has {count} outputs, so `{argument}` as a list "
            f"needs {count} entries, `None` for an output that is left out. "
            f"Received: {len(entries)}"
        )
    return entries


def flatten_like(outputs, **named):
    """Returns what belongs to the outputs as a flat list in their order.

    Args:
        outputs: The student's outputs.
        **named: One structure of tensors (or of `TopKTargets` and the like),
            under its name.

    Raises:
        ValueError: If it has not one entry for each of the outputs.
    """
    ((name, structure),) = named.items()
    received = keras.tree.flatten_with_path(map_outputs(_Leaf, structure))
    expected = keras.tree.flatten_with_path(outputs)
    if [path for path, _ in expected] != [path for path, _ in received]:
        raise ValueError(
            f"Expected `{name}` to have the structure of the outputs, "
            f"{_describe(outputs)}. Received: {_describe(structure)}"
        )
    return [leaf.content for _, leaf in received]


class _Leaf:
    """Keeps `keras.tree` from looking into what belongs to one output."""

    def __init__(self, content):
        self.content = content


def _describe(structure):
    return keras.tree.map_structure(lambda x: tuple(x.shape), structure)

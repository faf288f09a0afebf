"""Models with one output, a list of outputs, or a dict of outputs."""

import keras

from keras_distill.forward import list_outputs


def name_outputs(outputs, output_names=None) -> list:
    """Returns a name for each output, in flat order."""
    paths = [path for path, _ in keras.tree.flatten_with_path(outputs)]
    if not isinstance(outputs, dict):
        if output_names and len(output_names) == len(paths):
            return list(output_names)
        paths = [("output", *(path or [0])) for path in paths]
        return ["_".join(map(str, path)) for path in paths]
    return ["/".join(map(str, path)) for path in paths]


def find_output_names(model):
    """Returns the names of the outputs of a model, or `None` if unknown."""
    if not list_outputs(model):
        return None
    # `outputs` is flat. `output` has the structure, where a model has it.
    structure = getattr(model, "output", model.outputs)
    return name_outputs(structure, getattr(model, "output_names", None))


def broadcast_to_outputs(entries, output_names, argument):
    """Returns the entry of an argument of `compile` for each output."""
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
            f"needs {count} entries, `None` for an output without one. "
            f"Received: {len(entries)}"
        )
    return entries

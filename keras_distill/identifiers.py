"""The names, configs and instances that `compile` accepts."""

import collections

import keras

from keras_distill.validation import suggest


def retrieve(identifier, kind, classes: dict, argument: str, hint: str):
    """Returns an instance of `kind` for a name, a config or an instance."""
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, str):
        # The keys of `classes` are the names in snake case.
        names = {**classes, **{cls.__name__: cls for cls in classes.values()}}
        if identifier in names:
            return names[identifier]()
        raise ValueError(
            f"Unknown `{argument}`. {suggest(identifier, names)} "
            f"Received: {argument}={identifier!r}. {hint}"
        )
    if isinstance(identifier, type) and issubclass(identifier, kind):
        raise ValueError(
            f"Expected `{argument}` to be an instance: "
            f"`{identifier.__name__}()`. Received: the class"
        )
    raise ValueError(f"{hint} Received: {argument}={identifier!r}")


def number_names(names) -> list[str]:
    """Numbers equal names as Keras does: `"a"`, `"a_1"`, `"a_2"`."""
    counts: collections.Counter = collections.Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}_{counts[name]}" if counts[name] else name)
        counts[name] += 1
    return numbered


def replace_identifiers(entries, get):
    """Applies `get` to the entries of nested lists and dicts, except `None`."""
    # A dict with a class name is a config.
    if isinstance(entries, dict) and "class_name" not in entries:
        return {
            name: replace_identifiers(entry, get)
            for name, entry in entries.items()
        }
    if isinstance(entries, (list, tuple)):
        return [replace_identifiers(entry, get) for entry in entries]
    return None if entries is None else get(entries)

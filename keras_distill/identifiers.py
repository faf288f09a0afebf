"""Names, configs and instances, as `compile` takes them."""

import collections

import keras

from keras_distill.validation import suggest


def retrieve(identifier, kind, classes, argument, hint):
    """Retrieves an object from a name, a config or an instance.

    Args:
        identifier: An instance of `kind`, a name, or a config from
            `keras.saving.serialize_keras_object`.
        kind: Class that the object has to be an instance of.
        classes: Dict of the classes that a name stands for, by their names in
            snake case. The names of the classes themselves are known as well.
        argument: Name of the argument of the user, for the messages.
        hint: What the message says of an object of another kind.

    Returns:
        An instance of `kind`: of a name, one with its default arguments.

    Raises:
        ValueError: If the name is unknown, or the object is something else.
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, str):
        names = {
            **classes,
            **{each.__name__: each for each in classes.values()},
        }
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


def number_names(names):
    """Lists names, as Keras tells equal ones apart: `"a"`, `"a_1"`, `"a_2"`."""
    counts: collections.Counter = collections.Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}_{counts[name]}" if counts[name] else name)
        counts[name] += 1
    return numbered


def replace_identifiers(entries, get):
    """Replaces names and configs in a list or dict, at any depth.

    Args:
        entries: What `get` takes, `None`, or lists and dicts of these.
        get: Function from a name, config or object to the object.
    """
    if isinstance(entries, dict) and "class_name" not in entries:
        return {
            name: replace_identifiers(entry, get)
            for name, entry in entries.items()
        }
    if isinstance(entries, (list, tuple)):
        return [replace_identifiers(entry, get) for entry in entries]
    return None if entries is None else get(entries)

"""Counts the calls inside of keras_distill in one eager training step.

    python benchmarks/calls.py

The step calls the teacher, and has one distillation loss, a hard loss and one
metric. `sys.setprofile` sees each call. A reader who follows the step through
the code reads as many functions, and opens another module as often as the
module changes.
"""

import argparse
import itertools
import pathlib
import sys

import keras
import numpy as np

import keras_distill

FOLDER = pathlib.Path(keras_distill.__file__).parent


def make_network(units):
    """Returns a classifier with one hidden layer."""
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def list_calls(function):
    """Returns module and function of each call in this package."""
    calls = []

    def profile(frame, event, argument):
        path = pathlib.Path(frame.f_code.co_filename)
        if event == "call" and FOLDER in path.parents:
            module = str(path.relative_to(FOLDER))
            calls.append((module, frame.f_code.co_name))

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def list_calls_of_step():
    """Returns the calls of one eager training step."""
    distiller = keras_distill.Distiller(
        student=make_network(32), teacher=make_network(128)
    )
    distiller.compile(
        "adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=True,
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 64)).astype("float32")
    y = generator.integers(10, size=32)
    # The first step creates variables.
    distiller.train_on_batch(x, y)
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    return list_calls(lambda: distiller.train_function(iter([batch])))


def main(argv=None):
    """Prints the counts, and the calls if asked for.

    Returns:
        Dict of the counts.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--list", action="store_true", help="print each call in order"
    )
    arguments = parser.parse_args(argv)
    calls = list_calls_of_step()
    modules = [module for module, _ in calls]
    counts = {
        "calls": len(calls),
        "modules": len(set(modules)),
        "changes of module": sum(
            first != second for first, second in itertools.pairwise(modules)
        ),
    }
    if arguments.list:
        for module, name in calls:
            print(f"{module:40}{name}")
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts


if __name__ == "__main__":
    main()

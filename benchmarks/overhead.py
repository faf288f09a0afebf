"""Measures the fixed cost of a training step.

    python benchmarks/overhead.py

The student is so small (64-32-10 units, batches of 32) that the step itself
costs almost nothing. What remains is what each framework adds to a step. Four
variants take turns in one process:

    a  `student.fit` on the labels
    b  `keras_distill.Distiller.fit`, with soft targets in memory
    c  `keras_distill.Distiller.fit`, with the teacher called in each step
    d  `keras.distillation.Distiller.fit`

The teacher has the size of the student.
"""

import argparse

import keras
import numpy as np

import _measure
import _networks

FEATURES, UNITS, CLASSES = 64, 32, 10
LABELS = {
    "student": "a  student.fit",
    "cached": "b  keras_distill, cached",
    "on_the_fly": "c  keras_distill, on the fly",
    "keras_distillation": "d  keras.distillation",
}
RATIOS = [
    _measure.Ratio("b / a", ("cached",), ("student",), 1.12),
    _measure.Ratio("c / a", ("on_the_fly",), ("student",), 1.20),
    _measure.Ratio("d / a", ("keras_distillation",), ("student",)),
]


def make_network(name):
    """Returns a network with one small hidden layer."""
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(UNITS, activation="relu"),
            keras.layers.Dense(CLASSES),
        ],
        name=name,
    )


def make_variant(variant, data, arguments):
    """Returns a function that runs one epoch and returns its steps."""
    keras.utils.set_random_seed(arguments.seed)
    student, teacher = make_network("student"), make_network("teacher")
    options = {"batch_size": arguments.batch_size}
    if variant == "student":
        model = _networks.compile_student(student)
    elif variant == "keras_distillation":
        model = _networks.make_peer(student, teacher)
    else:
        model = _networks.make_distiller(student, teacher)
        options["cache"] = variant == "cached"
    return _networks.make_fit(model, *data, **options)


def make_parser():
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = _measure.positive_integer
    parser.add_argument(
        "--rounds", type=count, default=25, help="runs of each variant"
    )
    parser.add_argument(
        "--steps", type=count, default=1000, help="steps in an epoch"
    )
    parser.add_argument(
        "--batch-size", type=count, default=32, help="examples in a step"
    )
    _measure.add_arguments(parser, "overhead.json")
    return parser


def main(argv=None):
    """Runs the benchmark.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of everything that was measured, as in the JSON.
    """
    arguments = make_parser().parse_args(argv)
    generator = np.random.default_rng(arguments.seed)
    examples = arguments.steps * arguments.batch_size
    data = (
        generator.normal(size=(examples, FEATURES)).astype("float32"),
        generator.integers(CLASSES, size=examples),
    )
    runs = {
        variant: make_variant(variant, data, arguments) for variant in LABELS
    }
    for run in runs.values():
        # The first run traces.
        run()
    samples = _measure.alternate_seconds(
        "overhead", runs, arguments.rounds, arguments.seed
    )
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        "time": _measure.analyze(samples, _measure.TIME, RATIOS),
    }
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Time of one epoch, {steps} steps of {batch_size} examples, "
        "{rounds} rounds".format(**results["arguments"]),
        results["time"],
        LABELS,
        _measure.TIME,
    )
    _measure.write_json(arguments.output, results)
    return results


if __name__ == "__main__":
    main()

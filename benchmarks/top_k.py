"""What top-k soft targets save where there are many classes.

The same soft targets, once with all their logits and once with the k largest,
take turns in two kinds of run, of as many steps each:

    loss  the value of the loss and its gradient in the student's logits
    step  `fit` of a student that ends in as many classes, one epoch; next to
          it `student.fit` on the labels, which needs no soft targets

The soft targets are in memory. How they get there is no part of the times. The
peak memory is that of fresh processes that make the soft targets of one kind,
batch by batch, and run `fit` on them once.
"""

import argparse
import functools
import json

import keras
import numpy as np
import tensorflow as tf

import _measure
import _networks
import keras_distill

LABELS = {
    "dense loss": "loss, all logits",
    "top-k loss": "loss, top-k",
    "dense step": "step, all logits",
    "top-k step": "step, top-k",
    "labels step": "step, labels only",
}
TIME_RATIOS = [
    _measure.Ratio("loss: top-k / all", ("top-k loss",), ("dense loss",)),
    _measure.Ratio("step: top-k / all", ("top-k step",), ("dense step",)),
    _measure.Ratio("step: top-k / labels", ("top-k step",), ("labels step",)),
    _measure.Ratio("step: all / labels", ("dense step",), ("labels step",)),
]
# The variants whose peak memory is measured.
TRAININGS = ("dense step", "top-k step")
MEMORY_RATIOS = [
    _measure.Ratio("top-k / all", ("top-k step",), ("dense step",)),
]


def make_logits(arguments):
    """Yields random logits, batch by batch."""
    generator = np.random.default_rng(arguments.seed)
    shape = (arguments.batch_size, arguments.classes)
    for _ in range(arguments.steps):
        yield 3 * generator.standard_normal(shape, dtype="float32")


def make_soft_targets(kind, arguments):
    """Returns the soft targets of all steps.

    Args:
        kind: `"dense"` or `"top-k"`.
        arguments: The parsed command line.

    Returns:
        Array of logits, or `keras_distill.TopKTargets` of arrays.
    """
    if kind == "dense":
        return np.concatenate(list(make_logits(arguments)))
    batches = [
        keras_distill.top_k_targets(
            logits, arguments.k, temperatures=(_networks.TEMPERATURE,)
        )
        for logits in make_logits(arguments)
    ]
    return keras.tree.map_structure(
        lambda *parts: np.concatenate(parts), *batches
    )


def make_variant(variant, soft_targets, arguments):
    """Prepares a variant.

    Args:
        variant: One of the keys of `LABELS`.
        soft_targets: As `make_soft_targets` returns them, or `None` for
            labels.
        arguments: The parsed command line.

    Returns:
        Function without arguments that runs `arguments.steps` steps and
        returns their number.
    """
    if variant.endswith("loss"):
        return _make_loss(soft_targets, arguments)
    keras.utils.set_random_seed(arguments.seed)
    data = _networks.make_data(
        arguments.steps * arguments.batch_size,
        arguments.seed,
        classes=arguments.classes,
    )
    student = keras.Sequential(
        [
            keras.Input((_networks.PIXELS,)),
            keras.layers.Dense(arguments.units, activation="relu"),
            keras.layers.Dense(arguments.classes),
        ]
    )
    if soft_targets is None:
        model, options = _networks.compile_student(student), {}
    else:
        model = _networks.make_distiller(student)
        options = {"soft_targets": soft_targets}
    return _networks.make_fit(
        model, data.x, data.y, batch_size=arguments.batch_size, **options
    )


def measure_time(arguments):
    """Lets all variants take turns in this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    soft_targets = {
        "dense": make_soft_targets("dense", arguments),
        "top-k": make_soft_targets("top-k", arguments),
        "labels": None,
    }
    runs = {
        variant: make_variant(
            variant, soft_targets[variant.split()[0]], arguments
        )
        for variant in LABELS
    }
    for run in runs.values():
        # The first run traces.
        run()
    samples = _measure.alternate_seconds(
        "time", runs, arguments.rounds, arguments.seed
    )
    return _measure.analyze(samples, _measure.TIME, TIME_RATIOS)


def measure_memory(arguments):
    """Lets the trainings take turns, each time in a process of its own.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    options = _measure.format_options(
        arguments, "classes", "k", "steps", "batch_size", "units", "seed"
    )
    samples = _measure.alternate(
        "memory",
        {
            variant: functools.partial(
                _measure.run_alone,
                __file__,
                f"--memory-of={variant}",
                *options,
            )
            for variant in TRAININGS
        },
        arguments.memory_rounds,
        arguments.seed,
    )
    return _measure.analyze(samples, _measure.MEMORY, MEMORY_RATIOS)


def measure_own_memory(arguments):
    """Runs the variant `arguments.memory_of` and looks at this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.measure_memory` returns it.
    """
    variant = arguments.memory_of
    return _measure.measure_memory(
        lambda: make_variant(
            variant, make_soft_targets(variant.split()[0], arguments), arguments
        )()
    )


def print_tables(results):
    """Prints what `main` returns, without the samples."""
    arguments = results["arguments"]
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Time of {steps} steps of {batch_size} examples with {classes} "
        "classes, k = {k}, {rounds} rounds".format(**arguments),
        results["time"],
        LABELS,
        _measure.TIME,
    )
    _measure.print_analysis(
        "Peak memory of a process that trains on {steps} batches, "
        "{memory_rounds} rounds".format(**arguments),
        results["memory"],
        LABELS,
        _measure.MEMORY,
    )


def make_parser():
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = _measure.positive_integer
    parser.add_argument(
        "--rounds", type=count, default=11, help="runs of each variant"
    )
    parser.add_argument(
        "--classes", type=count, default=10_000, help="classes of the student"
    )
    parser.add_argument(
        "--k", type=count, default=32, help="logits that are kept"
    )
    parser.add_argument(
        "--steps", type=count, default=30, help="steps of one run"
    )
    parser.add_argument(
        "--batch-size", type=count, default=128, help="examples in a step"
    )
    parser.add_argument(
        "--units",
        type=count,
        default=128,
        help="units in the student's hidden layer",
    )
    parser.add_argument(
        "--memory-rounds",
        type=count,
        default=5,
        help="processes for each of the trainings",
    )
    parser.add_argument(
        "--memory-of",
        choices=TRAININGS,
        help="only run this variant once and print the peak memory of this "
        "process, as JSON",
    )
    _measure.add_arguments(parser, "top_k.json")
    return parser


def main(argv=None):
    """Runs the benchmark.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured, which is also what the JSON holds.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.memory_of:
        results = measure_own_memory(arguments)
        print(json.dumps(results))
        return results
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        "time": measure_time(arguments),
        "memory": measure_memory(arguments),
    }
    print_tables(results)
    _measure.write_json(arguments.output, results)
    return results


def _make_loss(soft_targets, arguments):
    loss = keras_distill.losses.SoftTargetCrossentropy(_networks.TEMPERATURE)
    targets, student_logits = keras.tree.map_structure(
        lambda array: tf.constant(array[: arguments.batch_size]),
        # The student says of each example what the teacher says of another.
        (soft_targets, next(make_logits(arguments))[::-1]),
    )

    @tf.function
    def step(targets, student_logits):
        with tf.GradientTape() as tape:
            tape.watch(student_logits)
            value = loss(targets, student_logits)
        return value, tape.gradient(value, student_logits)

    def run():
        for _ in range(arguments.steps):
            step(targets, student_logits)
        return arguments.steps

    return run


if __name__ == "__main__":
    main()

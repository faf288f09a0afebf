"""What a training step costs: keras_distill next to its parts and its peer.

Six variants take turns in one process, on random data in the shape of MNIST
and with the networks of Hinton, Vinyals and Dean (2015):

    a  `student.fit` on the labels
    b  `keras_distill.Distiller.fit`, with the teacher called in each step
    c  `keras.distillation.Distiller.fit`, Keras's own
    d  `teacher.predict`
    e  `predict` of a network without weights: how the batches get there
    f  b once the soft targets are in memory (`cache=True`)

What b has to do is what a and d do, so (a + d) is what it may cost. As a and d
each bring the batches to a network and b does so once, (a + d - e) is the
stricter measure. All get the same arrays, batch size, optimizer and hard loss;
b and c also the same temperature and the same weights of the losses. One run
is one epoch, and a round is one run of each. The ratios are computed within
the rounds.

The peak memory of b and c is that of fresh processes that run one of them and
nothing else.

`benchmarks/compile_options.py` measures what XLA and several steps in one
execution do to b.
"""

import argparse
import json
import math

import keras

import _measure
import _networks

LABELS = {
    "student": "a  student.fit",
    "keras_distill": "b  keras_distill",
    "keras_distillation": "c  keras.distillation",
    "teacher": "d  teacher.predict",
    "batches": "e  batches alone",
    "cached": "f  keras_distill, cached",
}
TIME_RATIOS = [
    _measure.Ratio(
        "b / (a + d)", ("keras_distill",), ("student", "teacher"), 1.05
    ),
    _measure.Ratio("b / c", ("keras_distill",), ("keras_distillation",), 1.0),
    _measure.Ratio(
        "b / (a + d - e)",
        ("keras_distill",),
        ("student", "teacher"),
        taken_off=("batches",),
    ),
    _measure.Ratio("f / a", ("cached",), ("student",), 1.05),
    _measure.Ratio("b / a", ("keras_distill",), ("student",)),
    _measure.Ratio("c / a", ("keras_distillation",), ("student",)),
]
MEMORY_RATIOS = [
    _measure.Ratio("b / c", ("keras_distill",), ("keras_distillation",), 1.0)
]


def make_slice():
    """Returns a network that does next to nothing."""
    inputs = keras.Input((_networks.PIXELS,))
    return keras.Model(inputs, inputs[:, : _networks.CLASSES])


def make_variant(variant, data, arguments):
    """Prepares a variant, with models of its own.

    Args:
        variant: One of the keys of `LABELS`.
        data: `_networks.Data`.
        arguments: The parsed command line.

    Returns:
        Function without arguments that runs one epoch and returns the number
        of its steps.
    """
    keras.utils.set_random_seed(arguments.seed)
    student = _networks.make_network(arguments.student_units, "student")
    teacher = _networks.make_network(arguments.teacher_units, "teacher")
    if variant in ("teacher", "batches"):
        network = teacher if variant == "teacher" else make_slice()
        return _predict(network, data, arguments.batch_size)
    options = {"batch_size": arguments.batch_size}
    if variant == "student":
        model = _networks.compile_student(student, arguments.optimizer)
    elif variant == "keras_distillation":
        model = _networks.make_peer(student, teacher, arguments.optimizer)
    else:
        model = _networks.make_distiller(student, teacher, arguments.optimizer)
        options["cache"] = variant == "cached"
    return _networks.make_fit(model, *data, **options)


def measure_time(arguments):
    """Lets all variants take turns in this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    data = _make_data(arguments)
    runs = {
        variant: make_variant(variant, data, arguments) for variant in LABELS
    }
    for run in runs.values():
        # The first run traces.
        run()
    samples = _measure.alternate_seconds(
        "time", runs, arguments.rounds, arguments.seed
    )
    return _measure.analyze(samples, _measure.TIME, TIME_RATIOS)


def measure_memory(arguments):
    """Lets b and c take turns, each time in a process of its own.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    samples = _measure.alternate(
        "memory",
        {
            variant: lambda variant=variant: _run_alone(variant, arguments)
            for variant in ("keras_distill", "keras_distillation")
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
    data = _make_data(arguments)
    return _measure.measure_memory(
        lambda: make_variant(arguments.memory_of, data, arguments)()
    )


def print_tables(results):
    """Prints what `main` returns, without the samples."""
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Time of one epoch, {steps} steps of {batch_size} examples, "
        "{optimizer}, {rounds} rounds".format(**results["arguments"]),
        results["time"],
        LABELS,
        _measure.TIME,
    )
    _measure.print_analysis(
        "Peak memory of a process, {memory_rounds} rounds".format(
            **results["arguments"]
        ),
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
        "--rounds", type=count, default=25, help="runs of each variant"
    )
    parser.add_argument(
        "--steps",
        type=count,
        default=150,
        help="steps in an epoch, all of them whole batches; 469 are the size "
        "of MNIST",
    )
    parser.add_argument(
        "--batch-size", type=count, default=128, help="examples in a step"
    )
    parser.add_argument(
        "--optimizer",
        choices=("adam", "sgd"),
        default="adam",
        help="optimizer of a, b and c, as Keras sets it by default",
    )
    parser.add_argument(
        "--teacher-units",
        type=count,
        default=1200,
        help="units in each hidden layer of the teacher",
    )
    parser.add_argument(
        "--student-units",
        type=count,
        default=800,
        help="units in each hidden layer of the student",
    )
    parser.add_argument(
        "--memory-rounds",
        type=count,
        default=5,
        help="processes for each of b and c",
    )
    parser.add_argument(
        "--memory-of",
        choices=tuple(LABELS),
        help="only run this variant for one epoch and print the peak memory "
        "of this process, as JSON",
    )
    _measure.add_arguments(parser, "training.json")
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


def _make_data(arguments):
    return _networks.make_data(
        arguments.steps * arguments.batch_size, arguments.seed
    )


def _predict(model, data, batch_size):
    def run():
        outputs = model.predict(data.x, batch_size=batch_size, verbose=0)
        return math.ceil(len(outputs) / batch_size)

    return run


def _run_alone(variant, arguments):
    """Runs this script again for one variant, and reads what it prints."""
    options = _measure.format_options(
        arguments,
        "steps",
        "batch_size",
        "optimizer",
        "teacher_units",
        "student_units",
        "seed",
    )
    return _measure.run_alone(__file__, f"--memory-of={variant}", *options)


if __name__ == "__main__":
    main()

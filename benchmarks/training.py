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

`benchmarks/jit_compile.py` measures what XLA does to b.
"""

import argparse
import json
import math
import subprocess
import sys
import typing

import _measure
import keras
import numpy as np

import keras_distill

PIXELS = 784
CLASSES = 10
TEMPERATURE = 4.0
ALPHA = 0.9

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
MEBIBYTE = 2**20


class Data(typing.NamedTuple):
    x: np.ndarray
    y: np.ndarray


def make_data(examples, seed):
    """Returns random images and labels in the shape of MNIST."""
    generator = np.random.default_rng(seed)
    return Data(
        generator.random((examples, PIXELS), dtype="float32"),
        generator.integers(CLASSES, size=examples),
    )


def make_network(units, name):
    """Returns a network of the paper: two hidden layers of ReLU units."""
    return keras.Sequential(
        [
            keras.Input((PIXELS,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(CLASSES),
        ],
        name=name,
    )


def make_slice():
    """Returns a network that does next to nothing."""
    inputs = keras.Input((PIXELS,))
    return keras.Model(inputs, inputs[:, :CLASSES])


def make_variant(variant, data, arguments):
    """Prepares a variant, with models of its own.

    Args:
        variant: One of the keys of `LABELS`.
        data: `Data`.
        arguments: The parsed command line.

    Returns:
        Function without arguments that runs one epoch and returns the number
        of its steps.
    """
    keras.utils.set_random_seed(arguments.seed)
    student = make_network(arguments.student_units, "student")
    teacher = make_network(arguments.teacher_units, "teacher")
    if variant in ("teacher", "batches"):
        network = teacher if variant == "teacher" else make_slice()
        return _predict(network, data, arguments.batch_size)
    model, options = student, {}
    if variant in ("keras_distill", "cached"):
        model = keras_distill.Distiller(student=student, teacher=teacher)
        options = {
            "distillation_loss": keras_distill.losses.SoftTargetCrossentropy(
                temperature=TEMPERATURE
            ),
            "alpha": ALPHA,
        }
    elif variant == "keras_distillation":
        model = keras.distillation.Distiller(
            teacher=teacher,
            student=student,
            distillation_losses=keras.distillation.LogitsDistillation(
                # Its default, a string, is not the KL divergence of softmaxes.
                loss=keras.losses.KLDivergence(),
                temperature=TEMPERATURE,
            ),
            student_loss_weight=1.0 - ALPHA,
        )
    model.compile(
        optimizer=arguments.optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    caches = {"keras_distill": False, "cached": True}
    fit_options = {"cache": caches[variant]} if variant in caches else {}
    return _fit(model, data, arguments.batch_size, fit_options)


def measure_time(arguments):
    """Lets all variants take turns in this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    data = make_data(arguments.steps * arguments.batch_size, arguments.seed)
    runs = {
        variant: make_variant(variant, data, arguments) for variant in LABELS
    }
    for run in runs.values():
        # The first run traces.
        run()
    samples = _measure.alternate(
        "time",
        {
            variant: lambda run=run: _measure.measure_seconds(run)
            for variant, run in runs.items()
        },
        arguments.rounds,
        arguments.seed,
    )
    return _measure.analyze(
        samples, ("cpu_seconds", "wall_seconds"), TIME_RATIOS
    )


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
    return _measure.analyze(
        samples, ("peak_bytes", "growth_bytes"), MEMORY_RATIOS
    )


def measure_own_memory(arguments):
    """Runs the variant `arguments.memory_of` and looks at this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict with the `peak_bytes` of the process, by how much the run raised
        them (`growth_bytes`), and the number of `steps`.
    """
    data = make_data(arguments.steps * arguments.batch_size, arguments.seed)
    before = _measure.peak_memory()
    steps = make_variant(arguments.memory_of, data, arguments)()
    peak = _measure.peak_memory()
    return {
        "peak_bytes": peak,
        "growth_bytes": peak - before,
        "steps": steps,
    }


def print_tables(results):
    """Prints what `main` returns, without the samples."""
    print(f"\n{results['command']}")
    print(
        "\nTime of one epoch, {} steps of {} examples, {}, {} rounds: "
        "median [quartiles]\n".format(
            results["arguments"]["steps"],
            results["arguments"]["batch_size"],
            results["arguments"]["optimizer"],
            results["arguments"]["rounds"],
        )
    )
    print(
        _measure.format_summaries(
            results["time"],
            LABELS,
            {
                "cpu_seconds": ("CPU seconds", 1.0),
                "wall_seconds": ("wall seconds", 1.0),
            },
        )
    )
    print()
    print(
        _measure.format_ratios(
            results["time"],
            {"cpu_seconds": "CPU seconds", "wall_seconds": "wall seconds"},
        )
    )
    print(
        "\nPeak memory of a process, {} rounds: median [quartiles]\n".format(
            results["arguments"]["memory_rounds"]
        )
    )
    print(
        _measure.format_summaries(
            results["memory"],
            {
                variant: label
                for variant, label in LABELS.items()
                if variant in results["memory"]["summaries"]
            },
            {
                "peak_bytes": ("peak, MiB", MEBIBYTE),
                "growth_bytes": ("of these by the run, MiB", MEBIBYTE),
            },
        )
    )
    print()
    print(
        _measure.format_ratios(
            results["memory"],
            {"peak_bytes": "peak", "growth_bytes": "by the run"},
        )
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


def _fit(model, data, batch_size, options):
    def run():
        before = int(model.optimizer.iterations)
        model.fit(data.x, data.y, batch_size=batch_size, verbose=0, **options)
        return int(model.optimizer.iterations) - before

    return run


def _predict(model, data, batch_size):
    def run():
        outputs = model.predict(data.x, batch_size=batch_size, verbose=0)
        return math.ceil(len(outputs) / batch_size)

    return run


def _run_alone(variant, arguments):
    """Runs this script again for one variant, and reads what it prints."""
    command = [sys.executable, __file__, f"--memory-of={variant}"]
    for name in (
        "steps",
        "batch_size",
        "optimizer",
        "teacher_units",
        "student_units",
        "seed",
    ):
        option = name.replace("_", "-")
        command.append(f"--{option}={getattr(arguments, name)}")
    finished = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

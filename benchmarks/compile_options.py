"""What two arguments of `compile` do to a distillation step.

`jit_compile=True` (XLA) and `steps_per_execution=16`, each next to neither. A
dense, a convolutional and a dropout student, each distilled from a bigger
teacher of its kind, take turns in one process. The dense
networks are those of Hinton, Vinyals and Dean (2015); the data is random, in
the shape of MNIST. One run is one epoch of `keras_distill.Distiller.fit`.

The first run of each traces and compiles. It is no part of the rounds: what it
takes beyond the median of the others is reported as the compilation.

Set `CUDA_VISIBLE_DEVICES=-1` to measure the CPU of a machine with a GPU.
"""

import argparse
import typing

import keras

import _measure
import _networks

IMAGE = (28, 28, 1)

MODES = {
    "none": {"jit_compile": False},
    "xla": {"jit_compile": True},
    "16 steps": {"jit_compile": False, "steps_per_execution": 16},
}


class Networks(typing.NamedTuple):
    """Functions from `--shrink` to all layers but the last."""

    student: typing.Callable[[int], list]
    teacher: typing.Callable[[int], list]


def dense(units, dropout=0.0):
    """Lists the layers of two hidden layers of ReLU units.

    Args:
        units: Number of units in each.
        dropout: Share of the units that is dropped in training.
    """
    layers = []
    for _ in range(2):
        layers.append(keras.layers.Dense(units, activation="relu"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout))
    return layers


def convolutional(filters):
    """Lists the layers of a small convolutional network.

    Args:
        filters: Filters of the first convolution; the second has twice that.
    """
    return [
        keras.layers.Reshape(IMAGE),
        keras.layers.Conv2D(filters, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(2 * filters, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
    ]


KINDS = {
    "dense": Networks(
        student=lambda divisor: dense(_shrink(800, divisor)),
        teacher=lambda divisor: dense(_shrink(1200, divisor)),
    ),
    "convolutional": Networks(
        student=lambda divisor: convolutional(_shrink(16, divisor)),
        teacher=lambda divisor: convolutional(_shrink(32, divisor)),
    ),
    "dropout": Networks(
        student=lambda divisor: dense(_shrink(800, divisor), dropout=0.5),
        teacher=lambda divisor: dense(_shrink(1200, divisor), dropout=0.5),
    ),
}


def make_distiller(kind, options, arguments):
    """Returns a compiled distiller.

    Args:
        kind: One of the keys of `KINDS`.
        options: Dict of arguments of `compile`.
        arguments: The parsed command line.
    """
    keras.utils.set_random_seed(arguments.seed)
    networks = KINDS[kind]
    return _networks.make_distiller(
        _make_network(networks.student(arguments.shrink)),
        _make_network(networks.teacher(arguments.shrink)),
        **options,
    )


def measure(arguments):
    """Lets all variants take turns in this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it; with `first_runs`, a list of
        samples, and `compilations`, by variant and quantity.
    """
    runs = {
        f"{kind}, {mode}": _fit(
            make_distiller(kind, options, arguments), arguments
        )
        for kind in arguments.kinds
        for mode, options in MODES.items()
    }
    first_runs = _measure.alternate_seconds("first", runs, 1, arguments.seed)
    samples = _measure.alternate_seconds(
        "time", runs, arguments.rounds, arguments.seed
    )
    ratios = [
        _measure.Ratio(
            f"{kind}: {mode} / none", (f"{kind}, {mode}",), (f"{kind}, none",)
        )
        for kind in arguments.kinds
        for mode in MODES
        if mode != "none"
    ]
    analysis = _measure.analyze(samples, _measure.TIME, ratios)
    return {
        **analysis,
        "first_runs": first_runs,
        "compilations": {
            variant: {
                quantity: _measure.select(first_runs, variant, quantity)[0]
                - analysis["summaries"][variant][quantity]["median"]
                for quantity in _measure.TIME
            }
            for variant in runs
        },
    }


def resolve_auto(arguments):
    """Returns what Keras makes of `jit_compile="auto"`, by kind."""
    return {
        kind: bool(
            make_distiller(kind, {"jit_compile": "auto"}, arguments).jit_compile
        )
        for kind in arguments.kinds
    }


def print_tables(results):
    """Prints what `main` returns, without the samples."""
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Time of one epoch, {steps} steps of {batch_size} examples, "
        "{rounds} rounds".format(**results["arguments"]),
        results["time"],
        {variant: variant for variant in results["time"]["compilations"]},
        _measure.TIME,
    )
    print("\nTracing and compilation, once\n")
    print(
        _measure.format_table(
            [
                ["", *(each.heading for each in _measure.TIME.values())],
                *(
                    [variant, *(f"{seconds:.3f}" for seconds in each.values())]
                    for variant, each in results["time"]["compilations"].items()
                ),
            ]
        )
    )
    print('\n`jit_compile="auto"` here means\n')
    print(
        _measure.format_table(
            [[kind, str(jit)] for kind, jit in results["auto"].items()]
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
        "--kinds",
        nargs="+",
        choices=tuple(KINDS),
        default=list(KINDS),
        help="students to measure",
    )
    parser.add_argument(
        "--rounds", type=count, default=11, help="runs of each variant"
    )
    parser.add_argument(
        "--steps",
        type=count,
        default=32,
        help="steps in an epoch, all of them whole batches",
    )
    parser.add_argument(
        "--batch-size", type=count, default=128, help="examples in a step"
    )
    parser.add_argument(
        "--shrink",
        type=count,
        default=1,
        help="divisor of the widths of all hidden layers",
    )
    _measure.add_arguments(parser, "compile_options.json")
    return parser


def main(argv=None):
    """Runs the benchmark.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured, which is also what the JSON holds.
    """
    arguments = make_parser().parse_args(argv)
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        "auto": resolve_auto(arguments),
        "time": measure(arguments),
    }
    print_tables(results)
    _measure.write_json(arguments.output, results)
    return results


def _make_network(layers):
    return keras.Sequential(
        [
            keras.Input((_networks.PIXELS,)),
            *layers,
            keras.layers.Dense(_networks.CLASSES),
        ]
    )


def _shrink(width, divisor):
    return max(1, width // divisor)


def _fit(distiller, arguments):
    data = _networks.make_data(
        arguments.steps * arguments.batch_size, arguments.seed
    )
    return _networks.make_fit(
        distiller,
        *data,
        batch_size=arguments.batch_size,
        # The teacher is a part of what is compiled.
        cache=False,
    )


if __name__ == "__main__":
    main()

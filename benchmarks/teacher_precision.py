"""What a teacher of lower precision saves, and what it changes.

A teacher is trained in float32 for a few epochs and then also runs in bfloat16
and with dense layers of 8-bit integers, as "Precision" in
`docs/guides/backends.md` does it. One run is an epoch of a float32 student with
the teacher called in each step; the three take turns in one process. Next to
the time stand the bytes of the teacher's weights, and on other images how far
its soft targets are from those in float32: the share of images with the same
most likely class, and the mean divergence at a temperature.

The networks are those of Hinton, Vinyals and Dean (2015); the images are
MNIST's. `KERAS_BACKEND=jax` or `torch` measures these.
"""

import argparse

import keras

import _measure
import _networks
import keras_distill

FLOAT32 = "float32"
VARIANTS = (FLOAT32, "bfloat16", "int8")
RATIOS = [
    _measure.Ratio(f"{variant} / {FLOAT32}", (variant,), (FLOAT32,))
    for variant in VARIANTS
    if variant != FLOAT32
]


def make_teacher(data, arguments):
    """Returns a trained teacher."""
    teacher = _networks.make_network(arguments.teacher_units)
    _networks.compile_student(teacher)
    teacher.fit(
        *data,
        epochs=arguments.teacher_epochs,
        batch_size=arguments.batch_size,
        verbose=0,
    )
    return teacher


def convert(teacher, precision):
    """Returns the same teacher in another precision.

    Args:
        teacher: `keras.Model` in float32.
        precision: One of `VARIANTS`.
    """

    def copy_layer(layer):
        dtype = FLOAT32 if precision == "int8" else precision
        return type(layer).from_config({**layer.get_config(), "dtype": dtype})

    converted = keras.models.clone_model(
        teacher, clone_function=copy_layer, recursive=True
    )
    converted.set_weights(teacher.get_weights())
    if precision == "int8":
        converted.quantize("int8")
    return converted


def measure_time(teachers, data, arguments):
    """Lets an epoch with each of the teachers take turns.

    Args:
        teachers: Dict from the precisions to the teachers.
        data: `_networks.Data`.
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    runs = {
        precision: _networks.make_fit(
            _networks.make_distiller(
                _networks.make_network(arguments.student_units), teacher
            ),
            *data,
            batch_size=arguments.batch_size,
            cache=False,
        )
        for precision, teacher in teachers.items()
    }
    for run in runs.values():
        # The first run traces.
        run()
    samples = _measure.alternate_seconds(
        "time", runs, arguments.rounds, arguments.seed
    )
    return _measure.analyze(samples, _measure.TIME, RATIOS)


def measure_agreement(teachers, data):
    """Compares the soft targets with those in float32.

    Args:
        teachers: Dict from the precisions to the teachers.
        data: `_networks.Data` that the teacher has not seen.

    Returns:
        Dict from the precisions to what `keras_distill.compare` found.
    """
    report = keras_distill.compare(
        teachers,
        tuple(data),
        teacher=FLOAT32,
        temperature=_networks.TEMPERATURE,
        latency_batch_sizes=(),
        verbose=0,
    )
    return {
        precision: {
            "bytes": each.bytes,
            "errors": each.errors,
            "agreement": each.teacher_agreement,
            "kl_divergence": each.teacher_kl_divergence,
        }
        for precision, each in report.models.items()
    }


def print_tables(results):
    """Prints what `main` returns, without the samples."""
    arguments = results["arguments"]
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Time of one epoch, {images} images in batches of {batch_size}, "
        "{rounds} rounds".format(**arguments),
        results["time"],
        {variant: variant for variant in VARIANTS},
        _measure.TIME,
    )
    print(
        f"\nSoft targets of {arguments['test_images']} other images, next to "
        f"float32, at T = {_networks.TEMPERATURE}\n"
    )
    heading = ["", "weights, MiB", "errors", "same class", "divergence, nats"]
    print(
        _measure.format_table(
            [
                heading,
                *(
                    [
                        precision,
                        f"{each['bytes'] / 2**20:.2f}",
                        str(each["errors"]),
                        *_format_closeness(each),
                    ]
                    for precision, each in results["agreement"].items()
                ),
            ]
        )
    )


def make_parser():
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = _measure.positive_integer
    for name, default, meaning in (
        ("rounds", 9, "runs of each variant"),
        ("images", 20000, "images of an epoch"),
        ("test-images", 10000, "images that the soft targets are compared on"),
        ("teacher-epochs", 3, "epochs that the teacher is trained for"),
        ("batch-size", 128, "images in a step"),
        ("teacher-units", 1200, "units in a hidden layer of the teacher"),
        ("student-units", 800, "units in a hidden layer of the student"),
    ):
        parser.add_argument(
            f"--{name}",
            type=count,
            default=default,
            help=f"{meaning} (default: %(default)s)",
        )
    _measure.add_arguments(parser, "teacher_precision.json")
    return parser


def main(argv=None):
    """Runs the benchmark.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured, which is also what the JSON holds.
    """
    arguments = make_parser().parse_args(argv)
    keras.utils.set_random_seed(arguments.seed)
    images = _networks.load_mnist(arguments.images + arguments.test_images)
    train, test = (
        _networks.Data(*(each[part] for each in images))
        for part in (
            slice(arguments.images),
            slice(arguments.images, None),
        )
    )
    teacher = make_teacher(train, arguments)
    teachers = {
        precision: convert(teacher, precision) for precision in VARIANTS
    }
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        "agreement": measure_agreement(teachers, test),
        "time": measure_time(teachers, train, arguments),
    }
    print_tables(results)
    _measure.write_json(arguments.output, results)
    return results


def _format_closeness(each):
    if each["kl_divergence"] is None:
        return ["", ""]
    return [f"{100 * each['agreement']:.2f} %", f"{each['kl_divergence']:.2g}"]


if __name__ == "__main__":
    main()

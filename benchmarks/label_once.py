"""What it costs to label a transfer set once, and what it saves.

`epoch` compares epochs with soft targets that are there already with those of
training the student alone: from memory, and from a `SoftTargetStore`, in its
batches or with the examples shuffled. One run is one `fit` of several epochs.
The hash of the inputs that `fit` computes once, to know that they are still
those that were labelled, is inside. The soft targets, and the tracing, are not.

    python benchmarks/label_once.py epoch --pair dense
    python benchmarks/label_once.py epoch --pair convolutional
    python benchmarks/label_once.py epoch --steps-per-execution 16

`total` compares whole runs, from new models, with `keras.distillation`, which
calls the teacher in each step. The labelling is inside, and so are building
and tracing the models. For `keras.distillation` an ensemble is one Keras model
that returns the mean of its members' logits, the cheapest that there is; that
of keras_distill is the mean of their probabilities.

    python benchmarks/label_once.py total --teachers 1 --epochs 10
    python benchmarks/label_once.py total --teachers 10 --epochs 10

`create` compares `SoftTargetStore.create` with `teacher.predict` on the same
dataset. Both get a teacher that has not predicted yet, so that both trace it
once. It also shows the peak memory of processes that label few or many small
examples, of 100 classes: the soft targets of a million are 381 MiB, so that
keeping them would be seen.

    python benchmarks/label_once.py create

The dense networks are those of Hinton, Vinyals and Dean (2015), the
convolutional ones a ResNet-50 and a MobileNet with a quarter of the width, with
random weights. The data is random, or MNIST.
"""

import argparse
import functools
import json
import math
import pathlib
import tempfile
import typing

import keras
import tensorflow as tf

import _measure
import _networks
import keras_distill

IMAGE = (64, 64, 3)
# Of the many small examples.
FEATURES = 16
SMALL_CLASSES = 100

EPOCH_LABELS = {
    "arrays": "student.fit(x, y)",
    "memory": "keras_distill, from memory",
    "dataset": "student.fit(dataset)",
    "store": "keras_distill, from a store",
    "shuffled": "student.fit(examples.shuffle)",
    "shuffled_store": "keras_distill, from a store, shuffled",
}
EPOCH_RATIOS = [
    _measure.Ratio("from memory / arrays", ("memory",), ("arrays",), 1.05),
    _measure.Ratio("from a store / dataset", ("store",), ("dataset",), 1.05),
    _measure.Ratio("from a store / arrays", ("store",), ("arrays",), 1.05),
    _measure.Ratio(
        "from a store, shuffled / examples.shuffle",
        ("shuffled_store",),
        ("shuffled",),
        1.05,
    ),
]
TOTAL_LABELS = {
    "student": "student.fit",
    "keras_distill": "keras_distill",
    "keras_distillation": "keras.distillation",
}
# How many times as fast as `keras.distillation`, by teachers and epochs.
SPEEDUPS = {(1, 10): 1.2, (10, 10): 3.0, (10, 50): 4.0}
CREATE_LABELS = {
    "create": "SoftTargetStore.create",
    "predict": "teacher.predict",
}
CREATE_RATIOS = [
    _measure.Ratio(
        "create / predict: at least 0.95 of its examples a second",
        ("create",),
        ("predict",),
        1 / 0.95,
    )
]
# 1, and room for what the peaks of equal processes differ by.
LARGEST_GROWTH = 1.05


class Pair(typing.NamedTuple):
    """A teacher and a student, and what they are trained on.

    Args:
        make_teacher: Function from the parsed command line to a model.
        make_student: Function from the parsed command line to a model.
        shape: Shape of an image.
        images: Number of images.
        batch_size: Images in a step.
    """

    make_teacher: typing.Callable
    make_student: typing.Callable
    shape: tuple[int, ...]
    images: int
    batch_size: int


def make_dense_teacher(arguments):
    """Returns the big network of the paper."""
    return _networks.make_network(arguments.teacher_units)


def make_dense_student(arguments):
    """Returns the small network of the paper."""
    return _networks.make_network(arguments.student_units)


def make_application(application, **options):
    """Returns a network of `keras.applications` that ends in logits."""
    return application(
        weights=None,
        input_shape=IMAGE,
        classes=_networks.CLASSES,
        classifier_activation=None,
        **options,
    )


PAIRS = {
    "dense": Pair(
        make_dense_teacher,
        make_dense_student,
        (_networks.PIXELS,),
        images=60_000,
        batch_size=128,
    ),
    "convolutional": Pair(
        lambda _: make_application(keras.applications.ResNet50),
        lambda _: make_application(keras.applications.MobileNet, alpha=0.25),
        IMAGE,
        images=4096,
        batch_size=32,
    ),
}


def make_data(arguments):
    """Returns `_networks.Data`, as the command line asks for."""
    if arguments.data == "mnist":
        return _networks.load_mnist(arguments.images)
    return _networks.make_data(
        arguments.images, arguments.seed, PAIRS[arguments.pair].shape
    )


def make_dataset(data, arguments):
    """Returns a `tf.data.Dataset` of batches of the data."""
    return tf.data.Dataset.from_tensor_slices(tuple(data)).batch(
        arguments.batch_size
    )


def make_small_dataset(examples, batch_size):
    """Returns batches of examples that are in no memory.

    Args:
        examples: Number of examples.
        batch_size: Examples in a batch.

    Returns:
        `tf.data.Dataset` of inputs of shape `(batch, FEATURES)`.
    """
    frequencies = tf.range(1, FEATURES + 1, dtype="float32")
    return (
        tf.data.Dataset.range(examples)
        .batch(batch_size)
        .map(lambda i: tf.sin(tf.cast(i, "float32")[:, None] * frequencies))
    )


def create_store(folder, teacher, dataset):
    """Labels a dataset, and returns the `keras_distill.SoftTargetStore`."""
    return keras_distill.SoftTargetStore.create(
        pathlib.Path(folder) / "store", teacher, dataset, verbose=0
    )


def measure_epoch(arguments):
    """Lets epochs with and without soft targets take turns.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict with `time`, as `_measure.analyze` returns it.
    """
    pair = PAIRS[arguments.pair]
    data = make_data(arguments)
    dataset = make_dataset(data, arguments)
    teacher = pair.make_teacher(arguments)
    of_arrays = {
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
    }
    # Keras warns that it does not shuffle a dataset, unless it is told so.
    of_dataset = {"epochs": arguments.epochs, "shuffle": False}
    options = {"steps_per_execution": arguments.steps_per_execution}

    def make_student():
        keras.utils.set_random_seed(arguments.seed)
        return pair.make_student(arguments)

    def shuffle(examples):
        shuffled = examples.shuffle(arguments.images, arguments.seed)
        return shuffled.batch(arguments.batch_size)

    examples = tf.data.Dataset.from_tensor_slices(tuple(data))
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(folder, teacher, dataset)
        runs = {
            "arrays": _networks.make_fit(
                _networks.compile_student(make_student()),
                *data,
                **of_arrays,
            ),
            "memory": _networks.make_fit(
                _networks.make_distiller(make_student(), teacher, **options),
                *data,
                **of_arrays,
                cache=True,
            ),
            "dataset": _networks.make_fit(
                _networks.compile_student(make_student()), dataset, **of_dataset
            ),
            "store": _networks.make_fit(
                _networks.make_distiller(make_student(), **options),
                store.attach(dataset),
                **of_dataset,
            ),
            "shuffled": _networks.make_fit(
                _networks.compile_student(make_student()),
                shuffle(examples),
                **of_dataset,
            ),
            "shuffled_store": _networks.make_fit(
                _networks.make_distiller(make_student(), **options),
                shuffle(store.attach(examples)),
                **of_dataset,
            ),
        }
        for run in runs.values():
            # The first run traces, and labels the arrays.
            run()
        samples = _measure.alternate_seconds(
            "time", runs, arguments.rounds, arguments.seed
        )
    return {"time": _measure.analyze(samples, _measure.TIME, EPOCH_RATIOS)}


def measure_total(arguments):
    """Lets whole runs of keras_distill and its peer take turns.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict with `time`, as `_measure.analyze` returns it.
    """
    data = make_data(arguments)
    keras.utils.set_random_seed(arguments.seed)
    teachers = [
        make_dense_teacher(arguments) for _ in range(arguments.teachers)
    ]
    one_model = average(teachers)
    if arguments.teachers == 1:
        teachers = one_model

    def run(variant, examples=None, epochs=1):
        student = make_dense_student(arguments)
        if variant == "student":
            model = _networks.compile_student(student)
        elif variant == "keras_distillation":
            model = _networks.make_peer(student, one_model)
        else:
            model = _networks.make_distiller(student, teachers)
        return _networks.make_fit(
            model,
            data.x[:examples],
            data.y[:examples],
            epochs=epochs,
            batch_size=arguments.batch_size,
        )()

    for variant in TOTAL_LABELS:
        # What happens once in a process happens here.
        run(variant, examples=arguments.batch_size)
    samples = _measure.alternate_seconds(
        "time",
        {
            variant: functools.partial(run, variant, epochs=arguments.epochs)
            for variant in TOTAL_LABELS
        },
        arguments.rounds,
        arguments.seed,
    )
    speedup = SPEEDUPS.get((arguments.teachers, arguments.epochs))
    name = "keras_distill / keras.distillation"
    ratios = [
        _measure.Ratio(
            f"{name}: at least {speedup:g} times as fast" if speedup else name,
            ("keras_distill",),
            ("keras_distillation",),
            1 / speedup if speedup else None,
        ),
        *(
            _measure.Ratio(
                f"{TOTAL_LABELS[variant]} / student.fit",
                (variant,),
                ("student",),
            )
            for variant in ("keras_distill", "keras_distillation")
        ),
    ]
    return {"time": _measure.analyze(samples, _measure.TIME, ratios)}


def average(teachers):
    """Returns a model of the mean of the logits, or the only teacher."""
    if len(teachers) == 1:
        return teachers[0]
    inputs = keras.Input(teachers[0].input_shape[1:])
    logits = [teacher(inputs) for teacher in teachers]
    return keras.Model(inputs, keras.layers.average(logits))


def measure_create(arguments):
    """Lets labelling and predicting take turns.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict with `time` and `memory`, as `_measure.analyze` returns them.
    """
    dataset = make_dataset(make_data(arguments), arguments)
    variants = {
        variant: functools.partial(
            _measure_labelling, variant, dataset, arguments
        )
        for variant in CREATE_LABELS
    }
    for measure in variants.values():
        # What happens once in a process happens here.
        measure()
    samples = _measure.alternate(
        "time", variants, arguments.rounds, arguments.seed
    )
    return {
        "time": _measure.analyze(samples, _measure.TIME, CREATE_RATIOS),
        "memory": measure_create_memory(arguments),
    }


def measure_create_memory(arguments):
    """Labels few and many examples, each time in a process of its own.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    fewest, *others = sorted(set(arguments.memory_examples))

    def run_alone(examples):
        return _measure.run_alone(
            __file__,
            "create",
            f"--memory-of={examples}",
            *_measure.format_options(arguments, "batch_size", "seed"),
        )

    samples = _measure.alternate(
        "memory",
        {
            _name_examples(examples): functools.partial(run_alone, examples)
            for examples in (fewest, *others)
        },
        arguments.memory_rounds,
        arguments.seed,
    )
    ratios = [
        _measure.Ratio(
            f"{_name_examples(examples)} / {fewest:,}",
            (_name_examples(examples),),
            (_name_examples(fewest),),
            LARGEST_GROWTH,
        )
        for examples in others
    ]
    return _measure.analyze(samples, _measure.MEMORY, ratios)


def measure_own_memory(arguments):
    """Labels `arguments.memory_of` examples and looks at this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.measure_memory` returns it.
    """
    keras.utils.set_random_seed(arguments.seed)

    def run():
        teacher = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(SMALL_CLASSES),
            ]
        )
        dataset = make_small_dataset(arguments.memory_of, arguments.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            return _count_batches(
                create_store(folder, teacher, dataset), arguments
            )

    return _measure.measure_memory(run)


def print_tables(results):
    """Prints what `main` returns, without the samples."""
    arguments = results["arguments"]
    subcommand = SUBCOMMANDS[arguments["subcommand"]]
    print(f"\n{results['command']}")
    _measure.print_analysis(
        subcommand.title.format(**arguments),
        results["time"],
        subcommand.labels,
        _measure.TIME,
    )
    if "memory" in results:
        _measure.print_analysis(
            "Peak memory of a process that labels small examples in batches "
            "of {batch_size}, {memory_rounds} rounds".format(**arguments),
            results["memory"],
            {name: name for name in results["memory"]["summaries"]},
            _measure.MEMORY,
        )


class Subcommand(typing.NamedTuple):
    """One of the benchmarks.

    Args:
        measure: Function from the parsed command line to the results.
        labels: As in `_measure.format_summaries`.
        title: Of the table of times, with names of arguments in braces.
        output: Name of the JSON file, with names of arguments in braces.
        rounds: Default number of rounds.
    """

    measure: typing.Callable
    labels: dict[str, str]
    title: str
    output: str
    rounds: int


SUBCOMMANDS = {
    "epoch": Subcommand(
        measure_epoch,
        EPOCH_LABELS,
        "Time of one fit, {epochs} epochs of {images} images in batches of "
        "{batch_size}, {pair} pair, {rounds} rounds",
        "label_once_epoch_{pair}.json",
        rounds=11,
    ),
    "total": Subcommand(
        measure_total,
        TOTAL_LABELS,
        "Time of all, {epochs} epochs of {images} images in batches of "
        "{batch_size}, {teachers} teacher(s), {rounds} rounds",
        "label_once_total_{teachers}_{epochs}.json",
        rounds=3,
    ),
    "create": Subcommand(
        measure_create,
        CREATE_LABELS,
        "Time of labelling {images} images in batches of {batch_size}, "
        "{rounds} rounds",
        "label_once_create.json",
        rounds=11,
    ),
}


def make_parser():
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = _measure.positive_integer
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    epoch, total, create = (subparsers.add_parser(name) for name in SUBCOMMANDS)
    epoch.add_argument(
        "--pair", choices=tuple(PAIRS), default="dense", help="the networks"
    )
    epoch.add_argument(
        "--epochs", type=count, default=3, help="epochs of one fit"
    )
    epoch.add_argument(
        "--steps-per-execution",
        type=count,
        default=1,
        help="argument of `compile`, of keras_distill only",
    )
    total.add_argument(
        "--teachers", type=count, default=1, help="members of the ensemble"
    )
    total.add_argument(
        "--epochs", type=count, default=10, help="epochs of one run"
    )
    create.add_argument(
        "--memory-rounds",
        type=count,
        default=3,
        help="processes for each number of small examples",
    )
    create.add_argument(
        "--memory-examples",
        type=count,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        help="numbers of small examples to label",
    )
    create.add_argument(
        "--memory-of",
        type=count,
        help="only label so many small examples and print the peak memory of "
        "this process, as JSON",
    )
    for name, subcommand in SUBCOMMANDS.items():
        _add_common_arguments(subparsers.choices[name], subcommand)
    return parser


def main(argv=None):
    """Runs the benchmark.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured, which is also what the JSON holds.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.data == "mnist" and arguments.pair != "dense":
        parser.error("MNIST is for the dense pair")
    pair = PAIRS[arguments.pair]
    arguments.images = arguments.images or pair.images
    arguments.batch_size = arguments.batch_size or pair.batch_size
    arguments.output = arguments.output.format(**vars(arguments))
    if getattr(arguments, "memory_of", None):
        results = measure_own_memory(arguments)
        print(json.dumps(results))
        return results
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        **SUBCOMMANDS[arguments.subcommand].measure(arguments),
    }
    print_tables(results)
    _measure.write_json(arguments.output, results)
    return results


def _measure_labelling(variant, dataset, arguments):
    keras.utils.set_random_seed(arguments.seed)
    teacher = make_dense_teacher(arguments)
    with tempfile.TemporaryDirectory() as folder:

        def run():
            labelled = (
                create_store(folder, teacher, dataset)
                if variant == "create"
                else teacher.predict(dataset, verbose=0)
            )
            return _count_batches(labelled, arguments)

        return _measure.measure_seconds(run)


def _count_batches(examples, arguments):
    return math.ceil(len(examples) / arguments.batch_size)


def _name_examples(examples):
    return f"{examples:,} examples"


def _describe_defaults(field):
    return " or ".join(
        f"{getattr(pair, field)} ({name})" for name, pair in PAIRS.items()
    )


def _add_common_arguments(parser, subcommand):
    count = _measure.positive_integer
    # Only one of them has a choice.
    parser.set_defaults(pair="dense")
    parser.add_argument(
        "--rounds",
        type=count,
        default=subcommand.rounds,
        help="runs of each variant",
    )
    parser.add_argument(
        "--images",
        type=count,
        help=f"images in an epoch, by default {_describe_defaults('images')}",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        help=f"images in a step, by default {_describe_defaults('batch_size')}",
    )
    parser.add_argument(
        "--data",
        choices=("random", "mnist"),
        default="random",
        help="what the images are",
    )
    parser.add_argument(
        "--teacher-units",
        type=count,
        default=1200,
        help="units in each hidden layer of a dense teacher",
    )
    parser.add_argument(
        "--student-units",
        type=count,
        default=800,
        help="units in each hidden layer of a dense student",
    )
    _measure.add_arguments(parser, subcommand.output)


if __name__ == "__main__":
    main()

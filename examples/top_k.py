"""What it costs to keep only the k largest of a teacher's logits.

    python examples/top_k.py
    python examples/top_k.py --top-k 1 5 25 --temperature 2

A `SoftTargetStore` of thousands of classes keeps the largest logits of each
example, and the losses put all other classes into one bucket. This measures
the price in test accuracy, on 100 classes: pairs of the handwritten digits
that come inside of scikit-learn, side by side, from 00 to 99.

The teacher, a convolutional network, is trained on the labels. Students with
one hidden layer are distilled from its soft targets alone, with the k largest
logits for several k, and with all of them. All see the same batches and start
from the same weights. It is repeated for several seeds, which decide on the
pairs, the initial weights and the order. Pairs for the test are made of images
that are in no pair for training. Nothing was chosen on them.
"""

import json

import keras
import numpy as np

import keras_distill
import quickstart
from _common import STEPS_PER_EXECUTION
from _common import TEACHER
from _common import build_optimizer
from _common import compute_logits
from _common import count_steps
from _common import fit
from _common import format_mean
from _common import make_batches
from _common import make_parser
from _common import measure
from _common import positive_integer
from _common import train_on_labels

CLASSES = 100
BATCH_SIZE = 64
TEACHER_LEARNING_RATE = 3e-3
STUDENT_LEARNING_RATE = 5e-3
TEST_PAIRS = 5000
ALL = "all"


def main(argv=None):
    """Runs the comparison.

    Args:
        argv: List of command-line arguments. Defaults to those of the process.

    Returns:
        Dict with `arguments`, and a list of measurements, one for each seed,
        for the teacher, each k and `"all"`.
    """
    arguments = parse_arguments(argv)
    digits = quickstart.load_data()
    measurements = {}
    for seed in range(arguments.seeds):
        print(f"\nSeed {seed}, {seed + 1} of {arguments.seeds}")
        for name, measured in run_seed(seed, digits, arguments).items():
            measurements.setdefault(name, []).append(measured)
    print(format_results(measurements, arguments))
    results = {
        "arguments": {**vars(arguments), "output": str(arguments.output)},
        "measurements": measurements,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "results.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nAll figures are in {path}")
    return results


def parse_arguments(argv):
    """Returns the command-line arguments."""
    parser = make_parser(
        __doc__,
        seeds=5,
        epochs=20,
        temperature=4.0,
        alpha=1.0,
        output="output/top_k",
    )
    parser.add_argument(
        "--top-k",
        type=positive_integer,
        nargs="+",
        default=[1, 2, 5, 10, 25],
        help="numbers of logits to keep (default: %(default)s)",
    )
    parser.add_argument(
        "--pairs",
        type=positive_integer,
        default=10_000,
        help="number of pairs to train on (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.alpha != 1:
        parser.error("the students see no labels: --alpha is 1")
    if max(arguments.top_k) >= CLASSES:
        parser.error(f"--top-k has to be below {CLASSES}")
    return arguments


def make_pairs(images, labels, count, generator):
    """Returns pairs of images, side by side, and their labels from 0 to 99."""
    left, right = generator.integers(len(images), size=(2, count))
    return (
        np.concatenate([images[left], images[right]], axis=2),
        10 * labels[left] + labels[right],
    )


def build_teacher():
    """Returns a convolutional network that ends in logits."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 16, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )


def build_student():
    """Returns a network with one hidden layer that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((8, 16, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(CLASSES),
        ]
    )


def distill(student, batches, arguments, title):
    """Trains a student on soft targets that come with the data."""
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(
        optimizer=build_optimizer(STUDENT_LEARNING_RATE, len(batches)),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
            temperature=arguments.temperature
        ),
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    fit(distiller, batches, title)


def run_seed(seed, digits, arguments):
    """Trains a teacher, and a student for each k.

    Args:
        seed: Of the pairs, the initial weights and the order.
        digits: A result of `quickstart.load_data`.
        arguments: The command-line arguments.

    Returns:
        Dict of results of `measure`, by the name in the table.
    """
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    images, labels = make_pairs(
        digits["train_images"],
        digits["train_labels"],
        arguments.pairs,
        generator,
    )
    test_images, test_labels = make_pairs(
        digits["test_images"], digits["test_labels"], TEST_PAIRS, generator
    )
    steps = count_steps(len(images), arguments.epochs, BATCH_SIZE)
    teacher = build_teacher()
    train_on_labels(
        teacher,
        make_batches(images, labels, BATCH_SIZE, steps, seed),
        TEACHER_LEARNING_RATE,
        TEACHER,
    )
    logits = compute_logits(teacher, images)
    of_test = compute_logits(teacher, test_images)
    measured = {TEACHER: measure(of_test, test_labels, of_test)}
    initial = build_student().get_weights()
    for k in [*arguments.top_k, ALL]:
        targets = logits
        if k != ALL:
            targets = keras_distill.top_k_targets(
                logits, k, (arguments.temperature,), "float16"
            )
        student = build_student()
        student.set_weights(initial)
        batches = make_batches(
            keras_distill.WithSoftTargets(images, targets),
            None,
            BATCH_SIZE,
            steps,
            seed,
        )
        distill(student, batches, arguments, f"Student, k = {k}")
        measured[str(k)] = measure(
            compute_logits(student, test_images), test_labels, of_test
        )
    return measured


def format_results(measurements, arguments):
    """Returns the table of all results."""
    lines = [
        "",
        f"{CLASSES} classes, {arguments.pairs:,} pairs, {TEST_PAIRS:,} for the "
        f"test, T = {arguments.temperature:g}; mean ± standard error of "
        f"{arguments.seeds} seeds",
        "",
        f"{'':12}{'accuracy in %':>18}{'as the teacher in %':>22}"
        f"{'less than all':>18}",
    ]
    of_all = measurements[ALL]
    for name, of_seeds in measurements.items():
        loss = [
            100 * (best["accuracy"] - ours["accuracy"])
            for best, ours in zip(of_all, of_seeds, strict=True)
        ]
        lines.append(
            f"{name if name == TEACHER else f'k = {name}':12}"
            f"{format_mean([100 * m['accuracy'] for m in of_seeds], 2):>18}"
            f"{format_mean([100 * m['agreement'] for m in of_seeds], 2):>22}"
            f"{format_mean(loss, 2) if name != TEACHER else '':>18}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

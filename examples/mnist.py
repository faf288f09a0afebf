"""Distills MNIST from a large network with dropout into a smaller one.

Run it with:

    python examples/mnist.py
    python examples/mnist.py --seeds 3 --epochs 20
    python examples/mnist.py --train-size 5000 --epochs 5

After Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 3: the teacher
has two hidden layers of 1,200 rectified linear units and is regularized with
dropout; the student has two of 800 and no regularization. The student is
trained once on the labels alone and once with the teacher's soft targets at a
temperature of 20 beside them. (The paper's teacher also has constraints on its
weights and sees images that are shifted by up to two pixels. Here all networks
see the images as they are.)

The images come from `tfds.load("mnist")`, which downloads them once. A seed
decides on the initial weights and the order of the images. No setting was
tuned, on these test images or others: the networks and the temperature are the
paper's, the rest is usual. With few epochs or few images the teacher is hardly
better than the student trained on labels, and there is little to learn from it.

The script prints a table, draws what the teacher's soft targets say about a
few digits, exports the first distilled student as a SavedModel, and checks
that what is on disk gives the same outputs.
"""

import keras
import numpy as np
import tensorflow_datasets as tfds
from _common import ALONE
from _common import DISTILLED
from _common import STEPS_PER_EXECUTION
from _common import TEACHER
from _common import build_optimizer
from _common import count_steps
from _common import fit
from _common import make_batches
from _common import make_parser
from _common import positive_integer
from _common import report
from _common import train_on_labels

import keras_distill

TRAIN_SIZE = 60000
BATCH_SIZE = 128
LEARNING_RATE = 1e-3


def main(argv=None):
    """Runs the comparison.

    Args:
        argv: List of command-line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured and written.
    """
    arguments = parse_arguments(argv)
    data = load_data(arguments.train_size)
    print(describe(arguments, data))
    runs = [run_seed(seed, data, arguments) for seed in range(arguments.seeds)]
    return report(runs, data, arguments)


def parse_arguments(argv):
    """Returns the command-line arguments."""
    parser = make_parser(
        __doc__,
        seeds=1,
        epochs=10,
        temperature=20.0,
        alpha=0.9,
        output="output/mnist",
    )
    parser.add_argument(
        "--train-size",
        type=positive_integer,
        default=TRAIN_SIZE,
        help="train on so many of the first images (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.train_size > TRAIN_SIZE:
        parser.error(f"MNIST has {TRAIN_SIZE} training images")
    return arguments


def load_data(train_size):
    """Returns images in [0, 1] and labels, for training and for the test."""
    train, test = tfds.load(
        "mnist", split=[f"train[:{train_size}]", "test"], batch_size=-1
    )
    return {
        "train_images": scale(train["image"]),
        "train_labels": train["label"].numpy(),
        "test_images": scale(test["image"]),
        "test_labels": test["label"].numpy(),
    }


def scale(images):
    """Returns images of bytes as an array of floats in [0, 1]."""
    return images.numpy().astype(np.float32) / 255


def describe(arguments, data):
    """Returns the lines that say who is trained on what."""
    return (
        f"{len(data['train_images']):,} labelled training images (also the "
        f"transfer set); {len(data['test_images']):,} test images, MNIST's "
        f"own.\n"
        f"T = {arguments.temperature:g}, alpha = {arguments.alpha:g}, "
        f"{arguments.epochs} epochs with batches of {BATCH_SIZE} for every "
        f"network."
    )


def build_teacher():
    """Returns the large network, with dropout, that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1200, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1200, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10),
        ],
        name="teacher",
    )


def build_student():
    """Returns the smaller network, not regularized, that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(800, activation="relu"),
            keras.layers.Dense(800, activation="relu"),
            keras.layers.Dense(10),
        ],
        name="student",
    )


def distill(student, teacher, batches, arguments, title):
    """Trains a student on a teacher's soft targets and on labels.

    Returns:
        The `keras_distill.Distiller`.
    """
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer=build_optimizer(LEARNING_RATE, len(batches)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
            temperature=arguments.temperature
        ),
        alpha=arguments.alpha,
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    fit(distiller, batches, title)
    return distiller


def run_seed(seed, data, arguments):
    """Trains every network once.

    Args:
        seed: Decides on the initial weights and the order of the images.
        data: A result of `load_data`.
        arguments: The command-line arguments.

    Returns:
        Dict of the `models` by their names in the table, and the `distiller`.
    """
    keras.utils.set_random_seed(seed)
    images, labels = data["train_images"], data["train_labels"]
    steps = count_steps(len(images), arguments.epochs, BATCH_SIZE)
    batches = make_batches(images, labels, BATCH_SIZE, steps, seed)
    teacher, alone, student = build_teacher(), build_student(), build_student()
    print(f"\nSeed {seed}, {seed + 1} of {arguments.seeds}")
    train_on_labels(teacher, batches, LEARNING_RATE, TEACHER)
    train_on_labels(alone, batches, LEARNING_RATE, ALONE)
    distiller = distill(student, teacher, batches, arguments, DISTILLED)
    return {
        "models": {TEACHER: teacher, ALONE: alone, DISTILLED: student},
        "distiller": distiller,
    }


if __name__ == "__main__":
    main()

"""A small network, distilled, beats itself trained on the labels at hand.

Run it with `make demo`, or:

    python examples/quickstart.py
    python examples/quickstart.py --seeds 10 --labels 50 --temperature 8

The data are the 1,797 handwritten digits of 8 x 8 pixels that come inside of
scikit-learn. The story is the one that distillation is made for. Somebody has
trained a good teacher, with labels that you do not have. You have the teacher,
many images, labels for only a few of them, and want a network that is small
enough to ship:

- The teacher, a convolutional network, is trained on all training images.
- The student, one small hidden layer, is trained on the few labels.
- The same student is distilled: from the teacher's soft targets on all of the
  training images and from the same few labels. (The other labels are -1, which
  the loss ignores.)
- For reference, the same student is trained on all of the labels, as only the
  teacher's owner could.

All of it is repeated for several seeds. A seed decides which images have
labels, the initial weights and the order of the images. The test images are
the same for all, and no network ever trains on them.

How the settings were chosen: learning rates, number of steps, temperature,
alpha and regularization were compared on a fifth of the training images, held
out for this purpose, with other seeds than those used here. The test images
took no part in it. The student trained alone had the largest choice, of steps,
weight decay and dropout, and got what was best for it.

The script prints a table, draws what the teacher's soft targets say about a
few digits, exports the first distilled student as a SavedModel, and checks
that what is on disk gives the same outputs.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_distill
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

TEST_SIZE = 500
SPLIT_SEED = 0
BATCH_SIZE = 64
TEACHER_LEARNING_RATE = 3e-3
STUDENT_LEARNING_RATE = 1e-2
# It helps the student that has nothing but few labels, and no other.
ALONE_DROPOUT = 0.2
UNLABELLED = -1

REFERENCE = "Student, from all labels"


def main(argv=None):
    """Runs the comparison.

    Args:
        argv: List of command-line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured and written.
    """
    arguments = parse_arguments(argv)
    data = load_data()
    print(describe(arguments, data))
    runs = [run_seed(seed, data, arguments) for seed in range(arguments.seeds)]
    return {
        **report(runs, data, arguments),
        "labelled": [run["labelled"] for run in runs],
    }


def parse_arguments(argv):
    """Returns the command-line arguments."""
    parser = make_parser(
        __doc__,
        seeds=5,
        epochs=30,
        temperature=4.0,
        alpha=0.9,
        output="output/quickstart",
    )
    parser.add_argument(
        "--labels",
        type=positive_integer,
        default=100,
        help="number of labelled images, at least 10 (default: %(default)s)",
    )
    return parser.parse_args(argv)


def load_data():
    """Returns images in [0, 1] and labels, for training and for the test."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
    train_images, test_images, train_labels, test_labels = train_test_split(
        images,
        labels.astype("int32"),
        test_size=TEST_SIZE,
        stratify=labels,
        random_state=SPLIT_SEED,
    )
    return {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
    }


def describe(arguments, data):
    """Returns the lines that say who is trained on what."""
    train_size = len(data["train_images"])
    steps = count_steps(train_size, arguments.epochs, BATCH_SIZE)
    return (
        f"{train_size:,} training images (the transfer set), "
        f"{arguments.labels:,} of them labelled; {TEST_SIZE} test images; "
        f"split with seed {SPLIT_SEED}, stratified.\n"
        f"T = {arguments.temperature:g}, alpha = {arguments.alpha:g}, "
        f"{steps:,} steps of {BATCH_SIZE} images for every network."
    )


def build_teacher():
    """Returns a convolutional network that ends in logits."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ],
        name="teacher",
    )


def build_student(dropout=0.0):
    """Returns a network with one small hidden layer that ends in logits.

    Args:
        dropout: Rate of the dropout in training, of inputs and hidden layer.
    """
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(10),
        ],
        name="student",
    )


def pick_labelled(labels, count, seed):
    """Returns the indices of the images that have labels, of all classes."""
    indices, _ = train_test_split(
        np.arange(len(labels)),
        train_size=count,
        stratify=labels,
        random_state=seed,
    )
    return indices


def hide_labels(labels, labelled):
    """Returns the labels with -1 for all that are not among the labelled."""
    hidden = np.full_like(labels, UNLABELLED)
    hidden[labelled] = labels[labelled]
    return hidden


def distill(student, teacher, batches, arguments, title):
    """Trains a student on a teacher's soft targets and on labels.

    Returns:
        The `keras_distill.Distiller`.
    """
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer=build_optimizer(STUDENT_LEARNING_RATE, len(batches)),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=UNLABELLED
        ),
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
        seed: Which images have labels, the initial weights and the order.
        data: A result of `load_data`.
        arguments: The command-line arguments.

    Returns:
        Dict of the `models` by their names in the table, the `distiller`, and
        the indices of the `labelled` training images.
    """
    keras.utils.set_random_seed(seed)
    images, labels = data["train_images"], data["train_labels"]
    steps = count_steps(len(images), arguments.epochs, BATCH_SIZE)
    labelled = pick_labelled(labels, arguments.labels, seed)
    few = make_batches(
        images[labelled], labels[labelled], BATCH_SIZE, steps, seed
    )
    hidden = make_batches(
        images, hide_labels(labels, labelled), BATCH_SIZE, steps, seed
    )
    everything = make_batches(images, labels, BATCH_SIZE, steps, seed)

    teacher = build_teacher()
    alone = build_student(dropout=ALONE_DROPOUT)
    student, reference = build_student(), build_student()
    print(f"\nSeed {seed}, {seed + 1} of {arguments.seeds}")
    train_on_labels(teacher, everything, TEACHER_LEARNING_RATE, TEACHER)
    train_on_labels(alone, few, STUDENT_LEARNING_RATE, ALONE)
    distiller = distill(student, teacher, hidden, arguments, DISTILLED)
    train_on_labels(reference, everything, STUDENT_LEARNING_RATE, REFERENCE)
    return {
        "models": {
            TEACHER: teacher,
            ALONE: alone,
            DISTILLED: student,
            REFERENCE: reference,
        },
        "distiller": distiller,
        "labelled": labelled,
    }


if __name__ == "__main__":
    main()

"""Functions that the examples share: training, measuring, plotting."""

import argparse
import math
import pathlib
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_distill

# Training steps that TensorFlow takes between two visits to Python. For small
# networks the visits are what costs time.
STEPS_PER_EXECUTION = 20

# The rows of the table.
TEACHER = "Teacher"
ALONE = "Student, from labels"
DISTILLED = "Student, distilled"

INK = "#2f3437"
TRUE_CLASS = "#1f77a4"
OTHER_CLASS = "#e2914b"


def positive_integer(text):
    """The type of a command-line argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"Expected 1 or more. Got: {text}")
    return value


def make_parser(description, *, seeds, epochs, temperature, alpha, output):
    """Returns a parser of the arguments that all examples have.

    Args:
        description: The docstring of the script.
        seeds: Default of `--seeds`.
        epochs: Default of `--epochs`.
        temperature: Default of `--temperature`.
        alpha: Default of `--alpha`.
        output: Default of `--output`.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds",
        type=positive_integer,
        default=seeds,
        help="number of repetitions (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=positive_integer,
        default=epochs,
        help="passes over all training images; a network that trains on fewer "
        "images takes as many steps (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=temperature,
        help="T of the soft targets (default: %(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=alpha,
        help="weight of the soft targets; the labels have the rest "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path(output),
        help="folder of the picture and the student (default: %(default)s)",
    )
    return parser


def make_batches(images, targets, batch_size, steps, seed):
    """Returns the batches of a whole training, as one pass over a dataset.

    Keras draws one progress bar for each pass, so this is one bar a training.

    Args:
        images: Array of shape `(examples, ...)`, or `WithSoftTargets`.
        targets: Array with a label for each image, or `None`.
        batch_size: Number of examples in a batch.
        steps: Number of batches. The examples are repeated as often as needed
            and shuffled anew each time.
        seed: Seed of the order.

    Returns:
        A `tf.data.Dataset` of `steps` batches.
    """
    parts = (images,) if targets is None else (images, targets)
    examples = tf.data.Dataset.from_tensor_slices(parts)
    examples = examples.shuffle(len(examples), seed=seed).repeat()
    return examples.batch(batch_size).take(steps)


def count_steps(examples, epochs, batch_size):
    """Returns the number of batches in so many passes over all examples."""
    return math.ceil(examples * epochs / batch_size)


def build_optimizer(learning_rate, steps):
    """Returns Adam whose learning rate goes to 0 over the training."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.Adam(schedule)


def train_on_labels(model, batches, learning_rate, title):
    """Trains a network the usual way."""
    model.compile(
        optimizer=build_optimizer(learning_rate, len(batches)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    fit(model, batches, title)


def fit(model, batches, title):
    """Trains a compiled model or distiller on all batches once."""
    print(title, flush=True)
    # A bar that moves needs a terminal; a log file gets the last line of it.
    model.fit(batches, shuffle=False, verbose=1 if sys.stdout.isatty() else 2)


def compute_logits(model, images):
    """Returns the outputs of a model as an array."""
    # Not `predict`, which compiles anew for each of so many models.
    return np.concatenate(
        [
            keras.ops.convert_to_numpy(model(images[start:][:1000]))
            for start in range(0, len(images), 1000)
        ]
    )


def softmax(logits, temperature):
    """Returns `softmax(logits / temperature)` of an array of logits."""
    scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    exponentials = np.exp(scaled)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def measure(logits, labels, teacher_logits):
    """Returns what one model reached on the test images.

    Args:
        logits: The model's, on the test images.
        labels: Their labels.
        teacher_logits: The teacher's, on the same images.

    Returns:
        Dict with the number of `errors`, and as fractions the `accuracy` and
        the `agreement`: how often the teacher says the same, right or wrong.
    """
    classes = logits.argmax(axis=-1)
    return {
        "errors": int(np.sum(classes != labels)),
        "accuracy": float(np.mean(classes == labels)),
        "agreement": float(np.mean(classes == teacher_logits.argmax(axis=-1))),
    }


def measure_runs(runs, images, labels):
    """Returns a list of results of `measure` for each model, one a run.

    Args:
        runs: List of a dict of models for each seed.
        images: The test images.
        labels: Their labels.
    """
    measurements = {name: [] for name in runs[0]}
    for models in runs:
        logits = {
            name: compute_logits(model, images)
            for name, model in models.items()
        }
        for name in models:
            measurements[name].append(
                measure(logits[name], labels, logits[TEACHER])
            )
    return measurements


def measure_size(model):
    """Returns parameters and bytes on disk, exported as a SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        files = [f for f in pathlib.Path(folder).rglob("*") if f.is_file()]
        size = sum(file.stat().st_size for file in files)
    return {"parameters": model.count_params(), "bytes": size}


def mean_and_error(values):
    """Returns the mean, and its standard error (NaN for a single value)."""
    values = np.asarray(values, "float64")
    if len(values) == 1:
        return float(values[0]), float("nan")
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(error)


def format_mean(values, digits):
    """Returns `mean ± standard error` as text; of one value the value."""
    mean, error = mean_and_error(values)
    if np.isnan(error):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def format_table(sizes, measurements, test_size):
    """Returns the table that compares the models.

    Args:
        sizes: Dict of a result of `measure_size` for each model.
        measurements: Dict of a list for each model: a result of `measure` for
            each seed.
        test_size: Number of test images.
    """
    table = [
        (
            "",
            "parameters",
            "SavedModel",
            f"errors of {test_size:,}",
            "accuracy in %",
            "as the teacher in %",
        )
    ]
    for name, of_seeds in measurements.items():
        errors = [m["errors"] for m in of_seeds]
        accuracy = [100 * m["accuracy"] for m in of_seeds]
        agreement = [100 * m["agreement"] for m in of_seeds]
        table.append(
            (
                name,
                f"{sizes[name]['parameters']:,}",
                f"{sizes[name]['bytes'] / 1000:,.0f} kB",
                format_mean(errors, 1),
                format_mean(accuracy, 2),
                format_mean(agreement, 2),
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [first.ljust(widths[0])]
        cells += [
            cell.rjust(width)
            for cell, width in zip(others, widths[1:], strict=True)
        ]
        lines.append("  ".join(cells))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def compare(measurements):
    """Returns by how much the distilled student beats the one from labels.

    Args:
        measurements: As in `format_table`.

    Returns:
        Dict of the `differences` in test accuracy, in percentage points, one a
        seed; of their `mean` and its `standard_error`; and of the number of
        seeds `won`.
    """
    differences = [
        100 * (ours["accuracy"] - theirs["accuracy"])
        for ours, theirs in zip(
            measurements[DISTILLED], measurements[ALONE], strict=True
        )
    ]
    mean, error = mean_and_error(differences)
    return {
        "differences": differences,
        "mean": mean,
        "standard_error": error,
        "won": sum(difference > 0 for difference in differences),
    }


def format_gain(gain):
    """Returns the result of `compare` as a sentence."""
    differences = gain["differences"]
    return (
        f"{format_mean(differences, 2)} points of test accuracy "
        f"(better with {gain['won']} of {len(differences)} seeds)"
    )


def export_and_check(distiller, path, images):
    """Exports the student and compares what is on disk with what was trained.

    Args:
        distiller: The `keras_distill.Distiller` that trained it.
        path: Folder of the SavedModel.
        images: Images on which the two have to agree.

    Returns:
        The largest difference between any two of their logits.

    Raises:
        RuntimeError: If they differ by more than rounding explains.
    """
    distiller.export(path, verbose=False)
    # The name keeps the variables alive while `serve` runs.
    exported = tf.saved_model.load(path)
    served = exported.serve(images).numpy()
    trained = compute_logits(distiller.student, images)
    difference = float(np.max(np.abs(served - trained)))
    if difference > 1e-4 * max(1.0, float(np.max(np.abs(trained)))):
        raise RuntimeError(
            "The exported student differs from the trained one by up to "
            f"{difference:g}: {path}"
        )
    return difference


def pick_ambiguous(logits, labels, temperature, count):
    """Picks the images in which the teacher sees most of other classes.

    Args:
        logits: The teacher's.
        labels: The labels of the same images.
        temperature: Temperature at which the entropy is taken.
        count: How many to pick.

    Returns:
        Indices, in the order of their labels: from as many different classes,
        the image of the highest entropy among those the teacher gets right.
    """
    probabilities = softmax(logits, temperature)
    entropy = -np.sum(probabilities * np.log(probabilities + 1e-30), axis=-1)
    entropy[logits.argmax(axis=-1) != labels] = -1.0
    best = [
        max(np.flatnonzero(labels == label), key=entropy.__getitem__)
        for label in np.unique(labels)
    ]
    best.sort(key=entropy.__getitem__, reverse=True)
    return sorted(best[:count], key=labels.__getitem__)


def draw_ambiguous(path, teacher, images, labels, temperature, count=4):
    """Draws what a teacher says about those images it finds most ambiguous.

    Args:
        path: The PNG file to write.
        teacher: The teacher.
        images: Array of shape `(images, height, width, ...)` from 0, which is
            paper, to 1, which is ink.
        labels: Their labels.
        temperature: The temperature beside T = 1.
        count: How many images to draw.
    """
    logits = compute_logits(teacher, images)
    picked = pick_ambiguous(logits, labels, temperature, count)
    figure = keras_distill.plots.soft_targets(
        logits[picked],
        temperatures=(1.0, temperature),
        labels=labels[picked],
        images=np.reshape(images[picked], (len(picked), *images.shape[1:3])),
    )
    figure.savefig(path, dpi=150)


def report(runs, data, arguments):
    """Measures, prints, draws and exports what the runs have given.

    Args:
        runs: List, for each seed, of a dict of the `models` by their names in
            the table, and the `distiller`.
        data: Dict of `train_images`, `train_labels`, `test_images` and
            `test_labels`.
        arguments: The command-line arguments.

    Returns:
        Dict of the results.
    """
    measurements = measure_runs(
        [run["models"] for run in runs],
        data["test_images"],
        data["test_labels"],
    )
    sizes = {
        name: measure_size(model) for name, model in runs[0]["models"].items()
    }
    table = format_table(sizes, measurements, len(data["test_labels"]))
    gain = compare(measurements)
    seeds = list(range(arguments.seeds))
    print(f"\nMean ± standard error over the seeds {seeds}:\n\n{table}\n")
    print(f"Distilled over trained alone: {format_gain(gain)}")

    arguments.output.mkdir(parents=True, exist_ok=True)
    picture = arguments.output / "soft_targets.png"
    draw_ambiguous(
        picture,
        runs[0]["models"][TEACHER],
        data["train_images"],
        data["train_labels"],
        arguments.temperature,
    )
    print(f"What the soft targets say: {picture}")

    saved_model = arguments.output / "student"
    difference = export_and_check(
        runs[0]["distiller"], saved_model, data["test_images"]
    )
    print(
        f"The distilled student of seed 0: {saved_model}\n"
        f"Its largest difference from the trained one: {difference:g}"
    )
    return {
        "seeds": seeds,
        "sizes": sizes,
        "measurements": measurements,
        "gain": gain,
        "table": table,
        "picture": picture,
        "saved_model": saved_model,
        "largest_difference": difference,
        "distiller": runs[0]["distiller"],
    }

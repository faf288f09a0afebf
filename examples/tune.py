"""Chooses the temperature and alpha on a validation split, with KerasTuner.

    python examples/tune.py
    python examples/tune.py --temperatures 2 4 8 --alphas 0.5 0.9 --seeds 5

The task is the quickstart's: few labels, many images, a good teacher. A fifth
of the transfer set is held out for validation. On the rest the teacher is
trained, once, and gives its soft targets, once. For each T and alpha of a grid
a student is distilled from them with several seeds, which decide which images
have labels, the initial weights and the order of the images. The setting with
the best mean accuracy on the validation images is chosen; of equals the first.

Only then are the test images looked at: with seeds of their own, students are
distilled with the chosen setting and with the quickstart's, and both are
tested. Trust that number. The validation accuracy of the best of many settings
is too high, as it was picked for being high.

An interrupted search goes on where it was: run the same command again.
"""

import argparse
import json
import pathlib
import platform
import shlex
import sys

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patches import Rectangle
from sklearn.model_selection import train_test_split

import keras_distill
import quickstart
from _common import INK
from _common import OTHER_CLASS
from _common import STEPS_PER_EXECUTION
from _common import TEACHER
from _common import TRUE_CLASS
from _common import build_optimizer
from _common import compute_logits
from _common import count_steps
from _common import format_mean
from _common import make_batches
from _common import mean_and_error
from _common import measure
from _common import positive_integer
from _common import train_on_labels

TEACHER_SEED = 0
SPLIT_SEED = 0
OBJECTIVE = "val_accuracy"


def main(argv=None):
    """Searches, tests what was chosen, and writes both down.

    Args:
        argv: List of command-line arguments. Defaults to those of the process.

    Returns:
        Dict of what is in `results.json`.
    """
    arguments = parse_arguments(argv)
    folder = open_search(arguments)
    data = load_data(arguments.validation_size)
    print(describe(arguments, data))
    teacher = load_or_train_teacher(folder / "teacher.keras", data, arguments)
    data["soft_targets"] = compute_logits(teacher, data["train_images"])

    trials = search(folder, data, arguments)
    chosen = pick_best(trials)
    default = read_default_setting()
    tested = test_settings(teacher, data, [chosen, default], arguments)
    results = {
        "command": describe_command(argv),
        "versions": find_versions(),
        "examples": {
            part: len(data[f"{part}_labels"])
            for part in ("train", "validation", "test")
        },
        "validation_seeds": list(range(arguments.seeds)),
        "trials": trials,
        "chosen": chosen,
        "default": default,
        "test": tested,
    }
    print(format_results(results))
    write(arguments.output, results)
    return results


def parse_arguments(argv):
    """Returns the command-line arguments."""
    quickstarts = quickstart.parse_arguments([])
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--temperatures",
        type=temperature,
        nargs="+",
        default=[1.0, 2.0, 4.0, 8.0, 16.0],
        help="temperatures to try (default: %(default)s)",
    )
    parser.add_argument(
        "--alphas",
        type=fraction,
        nargs="+",
        default=[0.1, 0.5, 0.9, 1.0],
        help="weights of the soft targets to try (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=positive_integer,
        default=3,
        help="students of each setting (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=positive_integer,
        default=quickstarts.epochs,
        help="passes over the images (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        type=positive_integer,
        default=quickstarts.labels,
        help="number of labelled images, at least 10 (default: %(default)s)",
    )
    parser.add_argument(
        "--validation-size",
        type=positive_integer,
        default=259,
        help="images of the transfer set to choose on, at least 10 "
        "(default: %(default)s, a fifth)",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("output/tune"),
        help="folder of the results, the picture and the search "
        "(default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    arguments.temperatures = sorted(set(arguments.temperatures))
    arguments.alphas = sorted(set(arguments.alphas))
    return arguments


def temperature(text):
    """The type of a command-line argument that is a temperature."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"Expected more than 0. Got: {text}")
    return value


def fraction(text):
    """The type of a command-line argument from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"Expected 0 to 1. Got: {text}")
    return value


def open_search(arguments):
    """Returns the folder of the search: a new one, or one to go on with.

    Raises:
        SystemExit: If it holds a search with other settings, whose trials say
            nothing about these.
    """
    settings = {
        name: value
        for name, value in vars(arguments).items()
        if name != "output"
    }
    folder = arguments.output / "search"
    path = folder / "settings.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found != settings:
            raise SystemExit(
                f"{folder} is a search with other settings: {found}\n"
                "Delete it or pass another --output."
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n")
    return folder


def load_data(validation_size):
    """Returns the quickstart's data, some of it for validation instead."""
    data = quickstart.load_data()
    (
        data["train_images"],
        data["validation_images"],
        data["train_labels"],
        data["validation_labels"],
    ) = train_test_split(
        data["train_images"],
        data["train_labels"],
        test_size=validation_size,
        stratify=data["train_labels"],
        random_state=SPLIT_SEED,
    )
    return data


def describe(arguments, data):
    """Returns the lines that say what is tried on what."""
    settings = len(arguments.temperatures) * len(arguments.alphas)
    return (
        f"{len(data['train_images']):,} images to train on, "
        f"{arguments.labels} of them labelled; "
        f"{len(data['validation_images'])} to choose on; "
        f"{len(data['test_images'])} to test on at the end.\n"
        f"{settings} settings with {arguments.seeds} seeds each, "
        f"{find_steps(arguments, data):,} steps for every network."
    )


def find_steps(arguments, data):
    """Returns the number of batches in one training."""
    return count_steps(
        len(data["train_images"]), arguments.epochs, quickstart.BATCH_SIZE
    )


def load_or_train_teacher(path, data, arguments):
    """Returns the teacher of this search, which is trained once."""
    if path.exists():
        return keras.models.load_model(path, compile=False)
    keras.utils.set_random_seed(TEACHER_SEED)
    teacher = quickstart.build_teacher()
    batches = make_batches(
        data["train_images"],
        data["train_labels"],
        quickstart.BATCH_SIZE,
        find_steps(arguments, data),
        TEACHER_SEED,
    )
    train_on_labels(teacher, batches, quickstart.TEACHER_LEARNING_RATE, TEACHER)
    # Whoever interrupts the writing leaves no half of a teacher under its name.
    unfinished = path.with_stem("unfinished")
    teacher.save(unfinished)
    unfinished.replace(path)
    return teacher


def build_distiller(temperature, alpha, steps):
    """Returns a new student in a compiled distiller.

    It has no teacher: the soft targets come with the data.
    """
    distiller = keras_distill.Distiller(student=quickstart.build_student())
    distiller.compile(
        optimizer=build_optimizer(quickstart.STUDENT_LEARNING_RATE, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=quickstart.UNLABELLED
        ),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
            temperature=temperature
        ),
        alpha=alpha,
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    return distiller


def make_transfer_set(data, arguments, seed):
    """Returns batches of images, soft targets and the labels of a few."""
    labels = data["train_labels"]
    labelled = quickstart.pick_labelled(labels, arguments.labels, seed)
    return make_batches(
        keras_distill.WithSoftTargets(
            data["train_images"], data["soft_targets"]
        ),
        quickstart.hide_labels(labels, labelled),
        quickstart.BATCH_SIZE,
        find_steps(arguments, data),
        seed,
    )


class Students(keras_tuner.HyperModel):
    """The students that KerasTuner tries.

    Args:
        data: A result of `load_data`, with the `soft_targets`.
        arguments: The command-line arguments.
    """

    def __init__(self, data, arguments):
        super().__init__()
        self.data = data
        self.arguments = arguments

    def build(self, hp):
        return build_distiller(
            hp.Choice("temperature", self.arguments.temperatures),
            hp.Choice("alpha", self.arguments.alphas),
            find_steps(self.arguments, self.data),
        )

    def fit(self, hp, model, *, seed, **kwargs):
        history = model.fit(
            make_transfer_set(self.data, self.arguments, seed),
            validation_data=(
                self.data["validation_images"],
                self.data["validation_labels"],
            ),
            shuffle=False,
            **kwargs,
        )
        # A transfer set of all batches is one epoch: nothing is chosen among
        # epochs. Of each seed KerasTuner keeps what has a name of its own.
        (accuracy,) = history.history[OBJECTIVE]
        return {OBJECTIVE: accuracy, name_seed(seed): accuracy}


class Grid(keras_tuner.Oracle):
    """Tries all combinations, and goes on with those that are left.

    `keras_tuner.GridSearch` forgets where it was: a search that is run again
    after an interruption ends early or raises a `KeyError`
    (https://github.com/keras-team/keras-tuner/issues/1055).

    Args:
        settings: List of dicts of the values of the hyperparameters.
        **kwargs: Arguments of `keras_tuner.Oracle`.
    """

    def __init__(self, settings, **kwargs):
        super().__init__(max_trials=len(settings), **kwargs)
        self.settings = settings

    def populate_space(self, trial_id):
        return {"status": "RUNNING", "values": self.settings[int(trial_id)]}


class Tuner(keras_tuner.Tuner):
    """Runs a trial once for each seed, and tells how it went."""

    def run_trial(self, trial, seeds, **kwargs):
        results = []
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            results += super().run_trial(trial, seed=seed, **kwargs)
        return results

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        print(
            f"{len(self.oracle.end_order):4} of {self.oracle.max_trials}: "
            f"{format_setting(trial.hyperparameters.values)}, "
            f"validation accuracy {100 * trial.score:.2f} %",
            flush=True,
        )


def search(folder, data, arguments):
    """Tries all settings that were not tried before.

    Args:
        folder: Where KerasTuner keeps what it has tried.
        data: A result of `load_data`, with the `soft_targets`.
        arguments: The command-line arguments.

    Returns:
        List of dicts: the setting, the `accuracies` on the validation images,
        one a seed, and their `mean`.
    """
    settings = [
        {"temperature": temperature, "alpha": alpha}
        for temperature in arguments.temperatures
        for alpha in arguments.alphas
    ]
    oracle = Grid(
        settings,
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        # An error ends the search, and the trial is run again the next time.
        max_consecutive_failed_trials=1,
    )
    tuner = Tuner(
        oracle=oracle,
        hypermodel=Students(data, arguments),
        directory=folder,
        project_name="trials",
        overwrite=False,
    )
    seeds = range(arguments.seeds)
    print(f"\n{len(oracle.end_order)} of {len(settings)} settings are done.")
    tuner.search(seeds=seeds, verbose=0)
    return [
        {
            **trial.hyperparameters.values,
            "accuracies": [
                trial.metrics.get_last_value(name_seed(seed)) for seed in seeds
            ],
            "mean": trial.score,
        }
        for _, trial in sorted(oracle.trials.items())
    ]


def name_seed(seed):
    """Returns under which name KerasTuner keeps the result of a seed."""
    return f"{OBJECTIVE}_of_seed_{seed}"


def pick_best(trials):
    """Returns the setting of the highest mean; of equals the first."""
    best = max(trials, key=lambda trial: trial["mean"])
    return {name: best[name] for name in ("temperature", "alpha")}


def read_default_setting():
    """Returns the setting that the quickstart has."""
    arguments = quickstart.parse_arguments([])
    return {"temperature": arguments.temperature, "alpha": arguments.alpha}


def test_settings(teacher, data, settings, arguments):
    """Distills anew with each setting, and tests the students.

    Args:
        teacher: The teacher.
        data: A result of `load_data`, with the `soft_targets`.
        settings: List of dicts of `temperature` and `alpha`.
        arguments: The command-line arguments.

    Returns:
        Dict of the `seeds`, which are others than those of the search, and of
        a list of results of `measure` for each of the `settings`, one a seed.
    """
    print("\nTraining once more, for the test", flush=True)
    steps = find_steps(arguments, data)
    seeds = range(arguments.seeds, 2 * arguments.seeds)
    teacher_logits = compute_logits(teacher, data["test_images"])
    measurements = []
    for setting in settings:
        # The chosen setting may be the quickstart's.
        if setting in settings[: len(measurements)]:
            measurements.append(measurements[settings.index(setting)])
            continue
        measurements.append([])
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            distiller = build_distiller(**setting, steps=steps)
            distiller.fit(
                make_transfer_set(data, arguments, seed),
                shuffle=False,
                verbose=0,
            )
            logits = compute_logits(distiller.student, data["test_images"])
            measured = measure(logits, data["test_labels"], teacher_logits)
            measurements[-1].append(measured)
    return {"seeds": list(seeds), "measurements": measurements}


def format_setting(setting):
    """Returns a setting as text."""
    return f"T = {setting['temperature']:g}, alpha = {setting['alpha']:g}"


def format_results(results):
    """Returns the table of both settings."""
    trials = {
        (trial["temperature"], trial["alpha"]): trial["accuracies"]
        for trial in results["trials"]
    }
    names = ("Chosen", "Quickstart's")
    settings = (results["chosen"], results["default"])
    tested = [
        [100 * measured["accuracy"] for measured in measurements]
        for measurements in results["test"]["measurements"]
    ]
    examples = results["examples"]
    lines = [
        "",
        "Accuracy in % (mean ± standard error of "
        f"{len(results['test']['seeds'])} seeds):",
        "",
        f"{'':14}{'T':>6}{'alpha':>8}"
        f"{examples['validation']:10,} for validation"
        f"{examples['test']:10,} for the test",
    ]
    for name, setting, of_test in zip(names, settings, tested, strict=True):
        accuracies = trials.get((setting["temperature"], setting["alpha"]))
        validation = "not tried"
        if accuracies:
            validation = format_mean([100 * a for a in accuracies], 2)
        lines.append(
            f"{name:14}{setting['temperature']:6g}{setting['alpha']:8g}"
            f"{validation:>25}{format_mean(of_test, 2):>23}"
        )
    gain = np.subtract(*tested)
    lines += [
        "",
        "The setting that was chosen is the quickstart's."
        if settings[0] == settings[1]
        else f"Difference on the test images: {format_mean(gain, 2)} points.",
    ]
    return "\n".join(lines)


def describe_command(argv):
    """Returns the command line that repeats a run."""
    argv = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", "examples/tune.py", *map(str, argv)])


def find_versions():
    """Returns the versions that the results belong to."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_distill": keras_distill.__version__,
        "keras_tuner": keras_tuner.__version__,
        "tensorflow": tf.__version__,
    }


def write(output, results):
    """Writes the results and the picture."""
    path = output / "results.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    picture = output / "heat_map.png"
    draw_heat_map(picture, results)
    print(f"\nAll figures are in {path}, the heat map is {picture}")


def draw_heat_map(path, results):
    """Draws the accuracy on the validation images over T and alpha.

    Args:
        path: The PNG file to write.
        results: Dict of the `trials`, of the setting that was `chosen`, of the
            `default` one, and of the number of `examples`.
    """
    trials = results["trials"]
    temperatures = sorted({trial["temperature"] for trial in trials})
    alphas = sorted({trial["alpha"] for trial in trials})
    accuracies = np.empty((len(alphas), len(temperatures)))
    for trial in trials:
        cell = find_cell(trial, temperatures, alphas)
        accuracies[cell] = 100 * trial["mean"]

    width = 2.2 + 1.25 * max(len(temperatures), 4)
    height = 2.05 + 0.8 * len(alphas)
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes(
        (0.85 / width, 0.65 / height, 1 - 1.15 / width, 1 - 2.05 / height)
    )
    colors = LinearSegmentedColormap.from_list("", ["#f3f6f8", TRUE_CLASS])
    image = axes.imshow(accuracies, cmap=colors, aspect="auto", origin="lower")
    for cell, accuracy in np.ndenumerate(accuracies):
        axes.text(
            *reversed(cell),
            f"{accuracy:.1f}",
            horizontalalignment="center",
            verticalalignment="center",
            fontsize=12,
            color="white" if image.norm(accuracy) > 0.6 else INK,
        )
    style_grid(axes, temperatures, alphas)
    handles = [
        mark(axes, results[name], temperatures, alphas, **style)
        for name, style in (
            ("default", {"label": "the quickstart's", "edgecolor": INK}),
            ("chosen", {"label": "chosen", "edgecolor": OTHER_CLASS}),
        )
    ]
    write_heading(figure, results)
    figure.legend(
        handles=[handle for handle in reversed(handles) if handle],
        loc="upper right",
        bbox_to_anchor=(1 - 0.15 / width, 1 - 0.2 / height),
        ncols=2,
        frameon=False,
        labelcolor=INK,
        fontsize=10,
        handlelength=1.2,
        handleheight=1.0,
    )
    figure.savefig(path, dpi=150)


def find_cell(setting, temperatures, alphas):
    """Returns row and column of a setting in the heat map."""
    return (
        alphas.index(setting["alpha"]),
        temperatures.index(setting["temperature"]),
    )


def style_grid(axes, temperatures, alphas):
    """Labels the axes, and leaves white lines between the cells."""
    axes.set_xticks(range(len(temperatures)), [f"{t:g}" for t in temperatures])
    axes.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    axes.set_xlabel("temperature T", color=INK, fontsize=11)
    axes.set_ylabel("alpha", color=INK, fontsize=11)
    axes.set_xticks(np.arange(1, len(temperatures)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(alphas)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=11)
    axes.spines[:].set_visible(False)


def mark(axes, setting, temperatures, alphas, *, label, edgecolor):
    """Frames the cell of a setting, if there is one.

    Returns:
        What stands for it in the legend, or `None`.
    """
    if (
        setting["alpha"] not in alphas
        or setting["temperature"] not in temperatures
    ):
        return None
    row, column = find_cell(setting, temperatures, alphas)
    style = {"fill": False, "edgecolor": edgecolor, "linewidth": 3}
    axes.add_patch(
        Rectangle(
            (column - 0.47, row - 0.45), 0.94, 0.9, clip_on=False, **style
        )
    )
    return Patch(label=label, **style)


def write_heading(figure, results):
    """Writes what the heat map shows, and how much of it is chance."""
    width, height = figure.get_size_inches()
    seeds = len(results["validation_seeds"])
    text = (
        "Accuracy of the distilled student in %, on "
        f"{results['examples']['validation']:,} validation images;\n"
    )
    if seeds == 1:
        text += "one seed."
    else:
        errors = [
            100 * mean_and_error(trial["accuracies"])[1]
            for trial in results["trials"]
        ]
        text += (
            f"means of {seeds} seeds, with standard errors around "
            f"{np.median(errors):.1f}."
        )
    figure.text(
        0.25 / width,
        1 - 0.5 / height,
        "Which temperature, which alpha?",
        fontsize=16,
        fontweight="bold",
        color=INK,
    )
    figure.text(
        0.25 / width,
        1 - 0.66 / height,
        text,
        verticalalignment="top",
        fontsize=10,
        color=INK,
    )


if __name__ == "__main__":
    main()

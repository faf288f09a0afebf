"""The paper's section on MNIST: Hinton, Vinyals and Dean (2015), section 3.

    python -m reproductions.mnist --scale small
    python -m reproductions.mnist
    python -m reproductions.mnist errors missing-classes
    python -m reproductions.mnist errors --split validation

A teacher of two hidden layers of 1,200 rectified linear units, regularized with
dropout and a largest norm of its weights, sees images that are shifted by up to
two pixels. Students of two hidden layers of 800 units, without regularization,
learn from labels or from its soft targets. The experiments:

    errors           the test errors of all of them
    missing-classes  students that never saw a 3, or saw 7s and 8s only
    temperatures     the temperature, for students of 800, 300 and 30 units
    logit-matching   the limit of high temperatures
    fractions        students that see 1, 3, 10 or 100 % of the images
    gradients        how the gradients of labels and of soft targets vary
    search           how the settings were chosen (not run by default)

At full scale they take about an hour and a half on two cores and at small scale
some minutes. Each network is trained in a process with one thread, as
many at a time as there are cores. An interrupted command goes on where it was
when it is run again; nothing is trained twice.

The images come from `tfds.load("mnist")`, which downloads them once. A seed
decides on the initial weights, the order of the images and their shifts.
Settings are chosen with `--split validation`, which trains on 55,000 images and
judges on the other 5,000. The test images are for the last look: at networks as
they are after the last epoch.

The results, with the command, the versions and all settings, go to
`results.json` in the output folder, and the tables and figures beside it.
"""

import dataclasses
import os

# Before the first import of TensorFlow, here and in the workers.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from reproductions.common.command_line import choose_experiments
from reproductions.common.command_line import make_parser
from reproductions.common.command_line import positive_integer
from reproductions.common.results import describe_versions
from reproductions.common.results import write_results
from reproductions.common.workers import do_all
from reproductions.mnist import data
from reproductions.mnist.experiments import ALL
from reproductions.mnist.experiments import SEARCH
from reproductions.mnist.paper import format_comparison
from reproductions.mnist.recipes import SCALES
from reproductions.mnist.runs import TEMPERATURE
from reproductions.mnist.study import Study


def main(argv=None):
    """Trains what is not trained yet, measures, and writes down the results.

    Args:
        argv: List of command-line arguments. Defaults to those of the process.

    Returns:
        Dict of what is in `results.json`.
    """
    arguments = parse_arguments(argv)
    # It warns of as many compiled functions as there are networks.
    tf.get_logger().setLevel("ERROR")
    study = make_study(arguments)
    experiments = arguments.experiments

    def list_runs(names):
        known = ALL | SEARCH
        return [run for name in names for run in known[name].plan(study)]

    do_all(list_runs(experiments), study.root, arguments.workers)
    folder = find_folder(arguments, study)
    results = write_results(
        folder,
        [
            *("python", "-m", "reproductions.mnist"),
            *("--scale", arguments.scale, "--split", arguments.split),
            *("--seeds", str(len(study.seeds))),
        ],
        describe(study),
        experiments,
        study,
        list_runs,
    )
    (folder / "settings.md").write_text(study.scale.to_markdown() + "\n")
    if arguments.split == "test":
        table = format_comparison(results["experiments"])
        (folder / "paper.md").write_text(table + "\n")
    return results


def parse_arguments(argv):
    """Returns the command-line arguments."""
    parser = make_parser("mnist", __doc__, ALL | SEARCH, SCALES, "full")
    parser.add_argument(
        "--seeds",
        type=positive_integer,
        help="number of repetitions (default: 3 at full scale, else 1)",
    )
    parser.add_argument(
        "--split",
        choices=["test", "validation"],
        default="test",
        help="which images the networks are judged on (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    arguments.experiments = choose_experiments(
        parser, arguments.experiments, ALL | SEARCH, ALL
    )
    if set(arguments.experiments) & set(SEARCH) and arguments.split == "test":
        parser.error(
            "No setting is chosen on the test images: --split validation"
        )
    return arguments


def make_study(arguments):
    """Returns the `Study` that was asked for."""
    scale = SCALES[arguments.scale]
    train_size = scale.train_size
    if arguments.split == "validation":
        train_size = min(train_size, data.TRAIN_SIZE - data.VALIDATION_SIZE)
    train, judged = data.load(train_size, arguments.split)
    return Study(
        scale,
        list(range(arguments.seeds or scale.seeds)),
        train,
        judged,
        arguments.output / arguments.scale / "runs",
    )


def find_folder(arguments, study):
    """Returns where the results go, another place for other seeds."""
    name = arguments.split
    if len(study.seeds) != study.scale.seeds:
        name += f"-{len(study.seeds)}-seeds"
    return arguments.output / arguments.scale / name


def describe(study):
    """Returns what results depend on."""
    return {
        "seeds": study.seeds,
        "images": {
            "trained on": len(study.train.labels),
            "judged on": len(study.judged.labels),
        },
        "temperature": TEMPERATURE,
        "settings": dataclasses.asdict(study.scale),
        "versions": describe_versions(),
    }


if __name__ == "__main__":
    main()

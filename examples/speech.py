"""The paper's sections on speech: Hinton, Vinyals and Dean (2015), 4 and 6.

    python examples/speech.py --scale small
    python examples/speech.py ensemble
    python examples/speech.py small-data
    python examples/speech.py ensemble --held-out theo

Spoken digits, from `tfds.load("spoken_digit")`, are strung together and made
noisy. A network says which of 81 states of a hidden Markov model each frame of
10 ms is in; a decoder makes words of it. The experiments:

    align       the states of all frames, from clean recordings
    ensemble    ten networks, and a single one that is distilled from them
    small-data  3, 5 and 10 % of the data, with labels and with soft targets

An interrupted command goes on where it was when it is run again. All settings
are chosen on development strings; the test strings are for the last look.

The results, with the command, the versions and all settings, go to
`results.json` in the output folder, and the tables and figures beside it.
"""

import argparse
import dataclasses
import os
import pathlib

# Before the first import of TensorFlow, here and in the workers.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from _common import positive_integer
from _results import describe_versions
from _results import write_results
from _speech.experiments import ALL
from _speech.study import SCALES
from _speech.study import Study
from _workers import do_all


def main(argv=None):
    """Computes what is not there yet, measures, and writes down the results.

    Args:
        argv: List of command-line arguments. Defaults to those of the process.

    Returns:
        Dict of what is in `results.json`.
    """
    arguments = parse_arguments(argv)
    # It warns of as many compiled functions as there are networks.
    tf.get_logger().setLevel("ERROR")
    folder = arguments.output / arguments.scale
    study = Study(SCALES[arguments.scale], folder / "tasks", arguments.held_out)
    experiments = {name: ALL[name] for name in arguments.experiments}
    for step in ("plan", "plan_chosen"):
        do_all(
            [
                task
                for each in experiments.values()
                for task in getattr(each, step)(study)
            ],
            study.root,
            arguments.workers,
        )
    held_out = () if study.held_out is None else ("--held-out", study.held_out)
    return write_results(
        folder / (study.held_out or "all speakers"),
        [
            *("python", "examples/speech.py"),
            *("--scale", arguments.scale, *held_out),
        ],
        {
            "settings": dataclasses.asdict(study.scale),
            "versions": describe_versions(),
        },
        experiments,
        study,
    )


def parse_arguments(argv):
    """Returns the command-line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="experiment",
        help=f"which of {', '.join(ALL)} (default: all)",
    )
    parser.add_argument(
        "--scale",
        choices=list(SCALES),
        default="paper",
        help="numbers of networks and epochs (default: %(default)s)",
    )
    parser.add_argument(
        "--held-out",
        metavar="speaker",
        help="a speaker who is for the test alone (default: none)",
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=os.cpu_count(),
        help="networks that are trained at a time (default: one a core)",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("output/speech"),
        help="folder of networks, results and figures (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    unknown = set(arguments.experiments) - set(ALL)
    if unknown:
        parser.error(
            f"Expected experiments among {', '.join(ALL)}. "
            f"Got: {', '.join(sorted(unknown))}"
        )
    arguments.experiments = arguments.experiments or list(ALL)
    return arguments


if __name__ == "__main__":
    main()

"""The paper's sections on speech: Hinton, Vinyals and Dean (2015), 4 and 6.

    python -m reproductions.speech --scale small
    python -m reproductions.speech ensemble
    python -m reproductions.speech small-data
    python -m reproductions.speech ensemble --held-out george

Spoken digits, from `tfds.load("spoken_digit")`, are strung together and made
noisy. A network says which of 81 states of a hidden Markov model each frame of
10 ms is in; a decoder makes words of it. The experiments:

    align       the states of all frames, from clean recordings
    ensemble    ten networks, and a single one that is distilled from them
    small-data  3, 5 and 10 % of the data, with labels and with soft targets
    search      how the settings were chosen (not run by default)

An interrupted command goes on where it was when it is run again; nothing is
computed twice. All settings are chosen on development strings. The test strings
are for the last look, and every scale has its own.

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
from reproductions.common.results import describe_versions
from reproductions.common.results import write_results
from reproductions.common.workers import do_all
from reproductions.speech.experiments import ALL
from reproductions.speech.experiments import SEARCH
from reproductions.speech.recordings import SPEAKERS
from reproductions.speech.study import SCALES
from reproductions.speech.study import Study

_PHASES = ("plan", "plan_judgements")


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
    experiments = arguments.experiments
    # Networks are chosen before any is judged on the test strings.
    for phase in _PHASES:
        tasks = _list_tasks(study, experiments, [phase])
        do_all(tasks, study.root, arguments.workers)
    held_out = () if study.held_out is None else ("--held-out", study.held_out)
    name = study.held_out or "all-speakers"
    # Its results stay when the recipe changes.
    if set(experiments) <= set(SEARCH):
        name += "-search"
    return write_results(
        folder / name,
        [
            *("python", "-m", "reproductions.speech"),
            *("--scale", arguments.scale, *held_out),
        ],
        {
            "held_out": study.held_out,
            "settings": dataclasses.asdict(study.scale),
            "versions": describe_versions(),
        },
        experiments,
        study,
        lambda names: _list_tasks(study, names, _PHASES),
    )


def _list_tasks(study, names, phases):
    """Returns the tasks of some experiments, in these phases."""
    known = ALL | SEARCH
    return [
        task
        for phase in phases
        for name in names
        for task in getattr(known[name], phase)(study)
    ]


def parse_arguments(argv):
    """Returns the command-line arguments."""
    parser = make_parser("speech", __doc__, ALL | SEARCH, SCALES, "paper")
    parser.add_argument(
        "--held-out",
        choices=SPEAKERS,
        help="a speaker who is for the test alone (default: none)",
    )
    arguments = parser.parse_args(argv)
    arguments.experiments = choose_experiments(
        parser, arguments.experiments, ALL | SEARCH, ALL
    )
    if set(SEARCH) < set(arguments.experiments):
        parser.error("The search is not run together with what it is for.")
    return arguments


if __name__ == "__main__":
    main()

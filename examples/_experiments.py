"""The command line of experiments, and what they leave.

An experiment is a module with a `TITLE` and two functions: `measure(study)`
returns what came out, as a dict that JSON can hold, and `show(results, folder)`
returns tables in Markdown and draws figures into the folder.
"""

import argparse
import json
import os
import pathlib
import platform
import shlex

import keras
import numpy as np
import tensorflow as tf

import keras_distill
from _common import positive_integer
from _workers import measure_time


def make_parser(description, experiments, scales, scale, output):
    """Returns a parser of the arguments that all experiments have.

    Args:
        description: The docstring of the script.
        experiments: Names of those that run by default.
        scales: Names of the scales.
        scale: The default one.
        output: Default of `--output`.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="experiment",
        help=f"which of {', '.join(experiments)} (default: all)",
    )
    parser.add_argument(
        "--scale",
        choices=scales,
        default=scale,
        help="numbers of networks, examples and epochs (default: %(default)s)",
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
        default=pathlib.Path(output),
        help="folder of networks, results and figures (default: %(default)s)",
    )
    return parser


def choose_experiments(parser, names, known, default):
    """Returns a dict of the experiments that were asked for, by their names.

    Args:
        parser: The parser, which ends the command if there is no such one.
        names: What was asked for. Nothing means the default.
        known: Dict from names to modules.
        default: Names.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(
            f"Expected experiments among {', '.join(known)}. "
            f"Got: {', '.join(unknown)}"
        )
    return {name: known[name] for name in names or default}


def write_results(folder, command, description, experiments, study, list_tasks):
    """Measures, and writes down and prints what came out.

    Args:
        folder: Where it goes.
        command: List of the words of the command, but for the experiments.
        description: Dict of all that results depend on. Results of other
            experiments that are there and depend on the same are kept.
        experiments: Dict from names to modules.
        study: What `measure` takes.
        list_tasks: Function from names of experiments to the tasks that they
            consist of.

    Returns:
        Dict of what is in `results.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    # As it will be read again.
    description = json.loads(json.dumps(description))
    found = _load_earlier(path, description)
    for name, each in experiments.items():
        found[name] = json.loads(json.dumps(each.measure(study)))
    results = {
        "command": shlex.join([*command, *found]),
        "time": measure_time(list_tasks(found), study.root),
        **description,
        "experiments": found,
    }
    unfinished = path.with_stem("unfinished")
    unfinished.write_text(json.dumps(results, indent=1) + "\n")
    unfinished.replace(path)
    for name, each in experiments.items():
        table = each.show(found[name], folder)
        (folder / f"{name}.md").write_text(table + "\n")
        print(f"\n{each.TITLE}\n\n{table}")
    print(f"\nResults, tables and figures: {folder}")
    return results


def describe_versions():
    """Returns a dict of the versions of what computes."""
    return {
        "python": platform.python_version(),
        "keras_distill": keras_distill.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def _load_earlier(path, description):
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    experiments = earlier.pop("experiments")
    del earlier["command"]
    earlier.pop("time", None)
    return experiments if earlier == description else {}

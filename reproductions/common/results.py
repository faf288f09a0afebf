"""Measures experiments and writes their results.

An experiment is a module with a `TITLE` and two functions: `measure(study)`
returns the results as a dict that JSON can hold, and `show(results, folder)`
returns tables in Markdown and draws figures into the folder.
"""

import json
import platform
import shlex

import keras
import numpy as np
import tensorflow as tf

import keras_distill
from reproductions.common.workers import measure_time


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

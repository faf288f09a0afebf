"""The settings that were compared, on development strings.

Each differs in what its name says from the recipe that the search began with.
One seed: how much of a difference is chance is seen in the networks of an
ensemble, which differ in nothing else.
"""

import dataclasses

import numpy as np

from keras_distill.evaluation.tables import format_markdown
from reproductions.speech import tables
from reproductions.speech.experiments import ensemble
from reproductions.speech.experiments import small_data

TITLE = "The search for the recipe"

FIRST = "at first"

# The share of the data that the settings for little data are compared on.
SMALL = 0.03
# Where the networks of an ensemble are trained for the search alone.
_FOUR = {"members": 4}

# Changes of the scale. Those of `_FACTORS` are factors.
# From the recipe as it is now to the one that the search began with:
BEGINNING = {"width": 2 / 3, "hard_weight": 0.0}
# And from that one:
SETTINGS = {
    FIRST: {},
    "T = 1": {"temperature": 1.0},
    "T = 5": {"temperature": 5.0},
    "a tenth of hard loss": {"hard_weight": 0.1},
    "half hard loss": {"hard_weight": 0.5},
    "a third of the student's epochs": {"student_epochs": 1 / 3},
    "twice the student's epochs": {"student_epochs": 2.0},
    "four members": _FOUR,
    "four members, half the copies, twice the epochs": _FOUR
    | {"copies": 0.5, "epochs": 2.0, "student_epochs": 2.0},
    "four members, twice the copies, half the epochs": _FOUR
    | {"copies": 2.0, "epochs": 0.5, "student_epochs": 0.5},
    "four members, half the width": _FOUR | {"width": 0.5},
    "four members, one and a half the width": _FOUR | {"width": 1.5},
}
SMALL_SETTINGS = {
    FIRST: {},
    "T = 1": {"small_temperature": 1.0},
    "T = 5": {"small_temperature": 5.0},
    "half the epochs": {"small_epochs": 0.5},
    "twice the epochs": {"small_epochs": 2.0},
}
_FACTORS = ("copies", "epochs", "student_epochs", "width", "small_epochs")


def plan(study):
    """Returns the list of tasks to do first."""
    first = _change(study, {})
    return [
        *(
            task
            for changes in SETTINGS.values()
            for task in (
                _plan_teacher(_change(study, changes)),
                ensemble.plan_student(_change(study, changes), 0),
            )
        ),
        *_list_all(ensemble.plan_sweep(first)),
        *(
            small_data.plan_soft(_change(study, changes), SMALL, 0)
            for changes in SMALL_SETTINGS.values()
        ),
        *_list_all(small_data.plan_sweep(first, SMALL)),
    ]


def plan_judgements(study):
    """Returns the list of tasks to do then: none sees the test."""
    return []


def measure(study):
    """Returns what came out, as a dict: shares of development frames."""
    first = _change(study, {})
    return {
        "ensemble": {
            name: _measure(_change(study, changes))
            for name, changes in SETTINGS.items()
        },
        "sweep": first.find_best_epochs(ensemble.plan_sweep(first)),
        "small data": {
            name: small_data.plan_soft(
                _change(study, changes), SMALL, 0
            ).find_development(study.root)
            for name, changes in SMALL_SETTINGS.items()
        },
        "small sweep": first.find_best_epochs(
            small_data.plan_sweep(first, SMALL)
        ),
    }


def show(results, folder):
    """Returns the tables in Markdown."""
    rows = [
        [
            "setting",
            "members",
            "their standard deviation",
            "ensemble",
            "student",
            "of the gain, in %",
        ]
    ]
    for name, each in results["ensemble"].items():
        own, together, student = (
            each[key] for key in ("members", "ensemble", "student")
        )
        kept = (student - np.mean(own)) / (together - np.mean(own))
        rows.append(
            [
                name,
                f"{100 * np.mean(own):.2f}",
                f"{100 * np.std(own, ddof=1):.2f}",
                f"{100 * together:.2f}",
                f"{100 * student:.2f}",
                f"{100 * kept:.0f}",
            ]
        )
    small = [
        [f"setting, {SMALL:.0%} of the data", "soft targets"],
        *(
            [name, f"{100 * share:.2f}"]
            for name, share in results["small data"].items()
        ),
    ]
    return "\n\n".join(
        (
            format_markdown(rows),
            _describe_sweep("Labels", results["sweep"]),
            format_markdown(small),
            _describe_sweep(
                f"Labels, {SMALL:.0%} of the data, best epoch",
                results["small sweep"],
            ),
        )
    )


def _measure(study):
    """Returns what a setting reaches."""
    teacher = _plan_teacher(study)
    labels = study.development.load(study.root).labels
    classes = teacher.load(study.root).argmax(axis=-1)
    return {
        "members": [
            each.find_development(study.root) for each in teacher.teachers
        ],
        "ensemble": float(np.mean(classes == labels)),
        "student": ensemble.plan_student(study, 0).find_development(study.root),
    }


def _plan_teacher(study):
    """Returns what an ensemble says of the development strings."""
    return study.plan_soft_targets(
        study.plan_members(0), study.development, 1.0
    )


def _change(study, changes):
    """Returns a study with one seed, and other settings than at first."""
    scale = dataclasses.replace(study.scale, seeds=1)
    for each in (BEGINNING, changes):
        scale = dataclasses.replace(scale, **_multiply(scale, each))
    return dataclasses.replace(study, scale=scale)


def _multiply(scale, changes):
    """Returns changes with the values that the factors among them give."""
    return {
        field: max(1, round(value * getattr(scale, field)))
        if field in _FACTORS
        else value
        for field, value in changes.items()
    }


def _list_all(sweep):
    return [model for models in sweep.values() for model in models]


def _describe_sweep(what, found):
    """Returns a sentence on numbers of epochs."""
    chosen, sweep = found
    return (
        f"{what}, after so many epochs: {tables.format_sweep(sweep, chosen)}."
    )

"""The settings that were compared to choose the recipes, on validation images.

Each differs in what its name says from the recipe that the search began with.
"""

import dataclasses

import numpy as np
from scipy.special import softmax
from sklearn.metrics import log_loss

import keras_distill
from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist.experiments.errors import HARD_JITTER
from reproductions.mnist.experiments.errors import SOFT_JITTER
from reproductions.mnist.experiments.errors import plan_distilled
from reproductions.mnist.experiments.errors import plan_distilled_on_shifts
from reproductions.mnist.experiments.errors import plan_labels_on_shifts
from reproductions.mnist.study import HARD
from reproductions.mnist.study import SOFT
from reproductions.mnist.study import TEACHER

TITLE = "The search for the recipes"

FIRST = "at first"
TEACHER_SMALL_SHIFTS = f"{TEACHER}, more often small shifts"
SOFT_OF_SMALL_SHIFTS = f"{SOFT}, teacher with twice the epochs"

# Those of `epochs` and `learning_rate` are factors.
_THIRD = {"epochs": 1 / 3}
_HALF = {"epochs": 0.5}
_SMALL_SHIFTS = _THIRD | {
    "jitter": "triangular",
    "learning_rate": 3.0,
    "weight_decay": 0.1 / 3,
}
_TWICE = {"epochs": 2.0}
_AVERAGED = {"decay": 0.0, "ema_momentum": 0.9995}

# The search began with these factors of the number of epochs.
BEGINNING = {"teacher": 7 / 12, "hard_jitter": 3 / 4, "soft_jitter": 2}

# Changes of a run and of its recipe, by network. What takes long is compared
# at fewer epochs.
SETTINGS = {
    TEACHER: {
        FIRST: {},
        "a third of the epochs": _THIRD,
        "a third of the epochs, no weight decay": _THIRD
        | {"weight_decay": 0.0},
        "a third of the epochs, norm 1": _THIRD | {"max_norm": 1.0},
        "a third of the epochs, dropout 0.2": _THIRD | {"dropout": 0.2},
        "a third of the epochs, dropout 0.4": _THIRD | {"dropout": 0.4},
        "a third of the epochs, dropout 0.5, of pixels 0.2": _THIRD
        | {"dropout": 0.5, "input_dropout": 0.2},
        "a third of the epochs, batches of 64": _THIRD | {"batch_size": 64},
        "a third of the epochs, three times the learning rate": _THIRD
        | {"learning_rate": 3.0, "weight_decay": 0.1 / 3},
        "a third of the epochs, learning rate 0.1, momentum": _THIRD
        | {"optimizer": "sgd", "learning_rate": 100.0, "weight_decay": 1e-3},
        "a third of the epochs, rate does not fall, averaged weights": _THIRD
        | _AVERAGED,
        "a third of the epochs, more often small shifts": _THIRD
        | {"jitter": "triangular"},
        "a third of the epochs, more often small shifts, three times the "
        "learning rate": _SMALL_SHIFTS,
    },
    HARD: {
        FIRST: {},
        "half the epochs": _HALF,
        "twice the epochs": _TWICE,
    },
    SOFT: {
        FIRST: {},
        "a tenth of hard loss": {"alpha": 0.9},
        "half the epochs": _HALF,
        "twice the epochs": _TWICE,
        "rate does not fall, averaged weights": _AVERAGED,
        "learning rate 0.01, momentum": {
            "optimizer": "sgd",
            "learning_rate": 10.0,
        },
        "learning rate 0.02, momentum": {
            "optimizer": "sgd",
            "learning_rate": 20.0,
        },
        "an ensemble of teachers": {"ensemble": True},
        "soft targets averaged over shifts": {"average_shifts": True},
        "both": {"ensemble": True, "average_shifts": True},
    },
    HARD_JITTER: {
        FIRST: {},
        "two thirds of the epochs": {"epochs": 2 / 3},
        "a third more epochs": {"epochs": 4 / 3},
    },
    SOFT_JITTER: {
        FIRST: {},
        "half the epochs": _HALF,
        "a quarter of the epochs": {"epochs": 0.25},
        "half the epochs, learning rate 0.02, momentum": _HALF
        | {"optimizer": "sgd", "learning_rate": 20.0},
        "half the epochs, an ensemble of teachers": _HALF | {"ensemble": True},
        "half the epochs, soft targets averaged over shifts": _HALF
        | {"average_shifts": True},
        "half the epochs, both": _HALF
        | {"ensemble": True, "average_shifts": True},
    },
    TEACHER_SMALL_SHIFTS: {
        FIRST: {},
        "twice the epochs": _TWICE,
        "twice the epochs, dropout 0.4": _TWICE | {"dropout": 0.4},
    },
    SOFT_OF_SMALL_SHIFTS: {
        FIRST: {},
        "batches of 32": {"batch_size": 32},
        "batches of 16": {"batch_size": 16},
    },
}
_OF_THE_RUN = ("alpha", "temperature", "average_shifts", "jitter")


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [
        run
        for settings in _plan(study).values()
        for runs in settings.values()
        for run in runs
    ]


def measure(study):
    """Returns what came out, as a dict."""
    return {
        name: _measure(study, settings)
        for name, settings in _plan(study).items()
    }


def show(results, folder):
    """Returns the table in Markdown."""
    return format_markdown(
        [
            [
                "network",
                "setting",
                "errors",
                "p against the first",
                "crossentropy",
            ],
            *(
                [
                    name,
                    setting,
                    format_range(each["errors"]),
                    ""
                    if setting == FIRST
                    else format_range(each["p_values"], "{:.2g}"),
                    format_range(each["crossentropy"], "{:.4f}"),
                ]
                for name, settings in results.items()
                for setting, each in settings.items()
            ),
        ]
    )


def _measure(study, settings):
    """Returns what came out of a network's settings."""
    reports = [
        study.compare({name: runs[index] for name, runs in settings.items()})
        for index in range(len(study.seeds))
    ]
    return {
        name: {
            "errors": [report.models[name].errors for report in reports],
            "p_values": [
                report.mcnemar(name, FIRST).p_value for report in reports
            ],
            # It tells networks apart that have about as many errors.
            "crossentropy": [_measure_crossentropy(study, run) for run in runs],
        }
        for name, runs in settings.items()
    }


def _measure_crossentropy(study, run):
    logits = keras_distill.predict_logits(
        run.load(study.root), study.judged_images, 1000, verbose=0
    )
    return log_loss(study.judged.labels, softmax(np.float64(logits), axis=-1))


def _plan(study):
    """Returns a dict from networks to one from settings to a run a seed."""
    study = _begin(study)

    def plan_small_shifts(seed, **changes):
        changes["jitter"] = "triangular"
        return _change(study, study.plan_teacher(seed), changes)

    first = {
        TEACHER: study.plan_teacher,
        HARD: study.plan_labels,
        SOFT: lambda seed: plan_distilled(study, seed),
        HARD_JITTER: lambda seed: plan_labels_on_shifts(study, seed),
        SOFT_JITTER: lambda seed: plan_distilled_on_shifts(study, seed),
        TEACHER_SMALL_SHIFTS: plan_small_shifts,
        SOFT_OF_SMALL_SHIFTS: lambda seed: dataclasses.replace(
            plan_distilled(study, seed),
            teachers=(plan_small_shifts(seed, **_TWICE),),
        ),
    }
    return {
        name: {
            setting: [
                _change(study, first[name](seed), changes)
                for seed in study.seeds
            ]
            for setting, changes in settings.items()
        }
        for name, settings in SETTINGS.items()
    }


def _begin(study):
    """Returns the study with the recipes that the search began with."""
    scale = study.scale
    recipes = {
        name: _scale_epochs(getattr(scale, name), factor)
        for name, factor in BEGINNING.items()
    }
    return dataclasses.replace(
        study, scale=dataclasses.replace(scale, **recipes)
    )


def _scale_epochs(recipe, factor):
    """Returns a recipe with so many times the epochs, but at least one."""
    return dataclasses.replace(
        recipe, epochs=max(1, round(factor * recipe.epochs))
    )


def _change(study, run, changes):
    """Returns a run with other settings."""
    changes = dict(changes)
    of_the_run = {
        field: changes.pop(field) for field in _OF_THE_RUN if field in changes
    }
    if changes.pop("ensemble", False):
        of_the_run["teachers"] = study.plan_teachers()
    recipe = _scale_epochs(run.recipe, changes.pop("epochs", 1.0))
    if "learning_rate" in changes:
        changes["learning_rate"] *= recipe.learning_rate
    recipe = dataclasses.replace(recipe, **changes)
    return dataclasses.replace(run, recipe=recipe, **of_the_run)

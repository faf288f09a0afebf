"""The settings that were compared to choose the recipes, on validation images.

Each differs from the recipe of its scale in what its name says.
"""

import dataclasses

from _mnist.experiments.errors import SOFT_JITTER
from _mnist.experiments.errors import plan_distilled
from _mnist.experiments.errors import plan_distilled_on_shifts
from _mnist.study import HARD
from _mnist.study import SOFT
from _mnist.study import TEACHER
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "The search for the recipes"

CHOSEN = "as chosen"

# Those of `epochs` and `learning_rate` are factors.
_THIRD = {"epochs": 1 / 3}
_HALF = {"epochs": 0.5}

# Changes of a run and of its recipe, by network. What takes long is compared
# at fewer epochs.
SETTINGS = {
    TEACHER: {
        CHOSEN: {},
        "a third of the epochs": _THIRD,
        "a third of the epochs, no weight decay": _THIRD
        | {"weight_decay": 0.0},
        "a third of the epochs, weight decay 0.3": _THIRD
        | {"weight_decay": 0.3},
        "a third of the epochs, norm 1": _THIRD | {"max_norm": 1.0},
        "a third of the epochs, dropout 0.2": _THIRD | {"dropout": 0.2},
        "a third of the epochs, dropout 0.4": _THIRD | {"dropout": 0.4},
        "a third of the epochs, dropout 0.5, of pixels 0.2": _THIRD
        | {"dropout": 0.5, "input_dropout": 0.2},
        "a third of the epochs, batches of 64": _THIRD | {"batch_size": 64},
        "a third of the epochs, falls with power 1": _THIRD | {"decay": 1.0},
        "a third of the epochs, averaged weights": _THIRD
        | {"ema_momentum": 0.999},
        # A step takes off the same share of the weights.
        "a third of the epochs, momentum, 30 times the learning rate": _THIRD
        | {
            "optimizer": "sgd",
            "learning_rate": 30.0,
            "weight_decay": 0.1 / 30,
        },
    },
    HARD: {
        CHOSEN: {},
        "half the epochs": _HALF,
        "twice the epochs": {"epochs": 2.0},
        "batches of 64": {"batch_size": 64},
    },
    SOFT: {
        CHOSEN: {},
        "a tenth of hard loss": {"alpha": 0.9},
        "T = 4": {"temperature": 4.0},
        "batches of 16, half the epochs": _HALF | {"batch_size": 16},
        "batches of 128": {"batch_size": 128},
        "a third of the learning rate": {"learning_rate": 1 / 3},
        "half the epochs": _HALF,
        "twice the epochs": {"epochs": 2.0},
        "averaged weights": {"ema_momentum": 0.999},
        "momentum, ten times the learning rate": {
            "optimizer": "sgd",
            "learning_rate": 10.0,
        },
        "an ensemble of teachers": {"ensemble": True},
        "soft targets averaged over shifts": {"average_shifts": True},
        "both": {"ensemble": True, "average_shifts": True},
    },
    SOFT_JITTER: {
        CHOSEN: {},
        "half the epochs": _HALF,
        "half the epochs, a tenth of hard loss": _HALF | {"alpha": 0.9},
        "half the epochs, T = 4": _HALF | {"temperature": 4.0},
        "half the epochs, batches of 64": _HALF | {"batch_size": 64},
        "half the epochs, an ensemble of teachers": _HALF | {"ensemble": True},
        "half the epochs, soft targets averaged over shifts": _HALF
        | {"average_shifts": True},
        "half the epochs, both": _HALF
        | {"ensemble": True, "average_shifts": True},
        "an ensemble of teachers": {"ensemble": True},
    },
}
_FACTORS = ("epochs", "learning_rate")
_OF_THE_RUN = ("alpha", "temperature", "average_shifts")


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [run for each in _plan(study).values() for run in each]


def measure(study):
    """Returns what came out, as a dict."""
    errors = study.count_errors(_plan(study))
    return {
        name: {
            setting: each
            for (of, setting), each in errors.items()
            if of == name
        }
        for name in SETTINGS
    }


def show(results, folder):
    """Returns the table in Markdown."""
    return format_markdown(
        [
            ["network", "setting", "errors"],
            *(
                [name, setting, format_range(errors)]
                for name, settings in results.items()
                for setting, errors in settings.items()
            ),
        ]
    )


def _plan(study):
    """Returns a dict from network and setting to a run for each seed."""
    chosen = {
        TEACHER: study.plan_teacher,
        HARD: lambda seed: study.plan_student(
            seed, HARD, study.scale.hard, soft=False
        ),
        SOFT: lambda seed: plan_distilled(study, seed),
        SOFT_JITTER: lambda seed: plan_distilled_on_shifts(study, seed),
    }
    return {
        (name, setting): [
            _change(study, chosen[name](seed), changes) for seed in study.seeds
        ]
        for name, settings in SETTINGS.items()
        for setting, changes in settings.items()
    }


def _change(study, run, changes):
    """Returns a run with other settings."""
    changes = dict(changes)
    of_the_run = {
        field: changes.pop(field) for field in _OF_THE_RUN if field in changes
    }
    if changes.pop("ensemble", False):
        of_the_run["teachers"] = study.plan_teachers()
    for field in _FACTORS:
        if field in changes:
            changes[field] *= getattr(run.recipe, field)
    if "epochs" in changes:
        changes["epochs"] = max(1, round(changes["epochs"]))
    recipe = dataclasses.replace(run.recipe, **changes)
    return dataclasses.replace(run, recipe=recipe, **of_the_run)

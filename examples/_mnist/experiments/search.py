"""The settings that were compared to choose the recipes, on validation images.

Each differs from the recipe of its scale in what its name says.
"""

import dataclasses

from _mnist.study import SOFT
from _mnist.study import TEACHER
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "The search for the recipes"

CHOSEN = "as chosen"

# Changes of the recipe of a teacher.
TEACHERS = {
    CHOSEN: {},
    "no weight decay": {"weight_decay": 0.0},
    "no weight decay, norm 1": {"weight_decay": 0.0, "max_norm": 1.0},
    "weight decay 0.3": {"weight_decay": 0.3},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.4": {"dropout": 0.4},
    "dropout 0.5, of pixels 0.2": {"dropout": 0.5, "input_dropout": 0.2},
    "half the epochs": {"epochs": 0.5},
    "half the learning rate": {"learning_rate": 5e-4},
    "batches of 256": {"batch_size": 256},
    "gradient descent": {"optimizer": "sgd", "learning_rate": 0.03},
}

# Changes of the recipe of a student, and of what it learns.
STUDENTS = {
    CHOSEN: ({}, {}),
    "a tenth of hard loss": ({}, {"alpha": 0.9}),
    "T = 4": ({}, {"temperature": 4.0}),
    "batches of 16": ({"batch_size": 16, "epochs": 0.5}, {}),
    "batches of 128": ({"batch_size": 128}, {}),
    "three times the learning rate": ({"learning_rate": 3e-3}, {}),
    "a third of the learning rate": ({"learning_rate": 3e-4}, {}),
    "half the epochs": ({"epochs": 0.5}, {}),
    "twice the epochs": ({"epochs": 2.0}, {}),
    "gradient descent": ({"optimizer": "sgd", "learning_rate": 0.01}, {}),
}


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
        for name in (TEACHER, SOFT)
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
    planned = {
        (TEACHER, setting): [
            dataclasses.replace(
                study.plan_teacher(seed),
                recipe=_change(study.scale.teacher, **changes),
            )
            for seed in study.seeds
        ]
        for setting, changes in TEACHERS.items()
    }
    return planned | {
        (SOFT, setting): [
            study.plan_student(
                seed, SOFT, _change(study.scale.soft, **changes), **task
            )
            for seed in study.seeds
        ]
        for setting, (changes, task) in STUDENTS.items()
    }


def _change(recipe, epochs=1.0, **changes):
    """Returns another recipe, with so many times the epochs."""
    return dataclasses.replace(
        recipe, epochs=max(1, round(epochs * recipe.epochs)), **changes
    )

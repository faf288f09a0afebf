"""The settings that were compared to choose the recipes, on validation images.

Each differs from the recipe of its scale in what its name says.
"""

import dataclasses
import functools

from _mnist.study import HARD
from _mnist.study import SOFT
from _mnist.study import TEACHER
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "The search for the recipes"

CHOSEN = "as chosen"

# Changes of the recipe of a teacher. Those of `epochs` and `learning_rate` are
# factors.
TEACHERS = {
    CHOSEN: {},
    "no weight decay": {"weight_decay": 0.0},
    "no weight decay, norm 1": {"weight_decay": 0.0, "max_norm": 1.0},
    "weight decay 0.3": {"weight_decay": 0.3},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.4": {"dropout": 0.4},
    "dropout 0.5, of pixels 0.2": {"dropout": 0.5, "input_dropout": 0.2},
    "half the epochs": {"epochs": 0.5},
    "half the learning rate": {"learning_rate": 0.5},
    "batches of 256": {"batch_size": 256},
    "momentum, 30 times the learning rate": {
        "optimizer": "sgd",
        "learning_rate": 30.0,
    },
}

# Changes of the recipe of a student that learns from labels.
HARD_STUDENTS = {
    CHOSEN: {},
    "half the epochs": {"epochs": 0.5},
    "twice the epochs": {"epochs": 2.0},
    "batches of 64": {"batch_size": 64},
    "a third of the learning rate": {"learning_rate": 1 / 3},
}

# Changes of the recipe of a distilled student, and of what it learns.
SOFT_STUDENTS = {
    CHOSEN: ({}, {}),
    "a tenth of hard loss": ({}, {"alpha": 0.9}),
    "T = 4": ({}, {"temperature": 4.0}),
    "batches of 16, half the epochs": ({"batch_size": 16, "epochs": 0.5}, {}),
    "batches of 128": ({"batch_size": 128}, {}),
    "three times the learning rate": ({"learning_rate": 3.0}, {}),
    "a third of the learning rate": ({"learning_rate": 1 / 3}, {}),
    "half the epochs": ({"epochs": 0.5}, {}),
    "twice the epochs": ({"epochs": 2.0}, {}),
    "momentum, ten times the learning rate": (
        {"optimizer": "sgd", "learning_rate": 10.0},
        {},
    ),
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
        for name in (TEACHER, HARD, SOFT)
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
    scale = study.scale
    makers = {
        (TEACHER, setting): functools.partial(
            _plan_teacher, study, _change(scale.teacher, **changes)
        )
        for setting, changes in TEACHERS.items()
    }
    makers |= {
        (HARD, setting): functools.partial(
            study.plan_student,
            name=HARD,
            recipe=_change(scale.hard, **changes),
            soft=False,
        )
        for setting, changes in HARD_STUDENTS.items()
    }
    makers |= {
        (SOFT, setting): functools.partial(
            study.plan_student,
            name=SOFT,
            recipe=_change(scale.soft, **changes),
            **task,
        )
        for setting, (changes, task) in SOFT_STUDENTS.items()
    }
    return {
        key: [make(seed=seed) for seed in study.seeds]
        for key, make in makers.items()
    }


def _plan_teacher(study, recipe, seed):
    return dataclasses.replace(study.plan_teacher(seed), recipe=recipe)


def _change(recipe, epochs=1.0, learning_rate=1.0, **changes):
    """Returns another recipe: two changes are factors."""
    return dataclasses.replace(
        recipe,
        epochs=max(1, round(epochs * recipe.epochs)),
        learning_rate=learning_rate * recipe.learning_rate,
        **changes,
    )

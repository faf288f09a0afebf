"""The settings that were compared, on development strings.

Each differs from the recipe of its scale in what its name says. To save time it
is done with one seed, and with smaller ensembles.
"""

import dataclasses

import numpy as np

from _speech.experiments import ensemble
from _speech.experiments import small_data
from keras_distill.tables import format_markdown

TITLE = "The search for the recipe"

CHOSEN = "as chosen"

_MEMBERS = 4
_SMALL = 0.03

# Changes of the scale. Those of `_FACTORS` are factors.
SETTINGS = {
    CHOSEN: {},
    "T = 1": {"temperature": 1.0},
    "T = 5": {"temperature": 5.0},
    "a tenth of hard loss": {"hard_weight": 0.1},
    "half hard loss": {"hard_weight": 0.5},
    "student trained as long as a baseline": {"patience": 1},
    "twice as long": {"patience": 2},
    "half the copies, twice the epochs": {"copies": 0.5, "epochs": 2.0},
    "twice the copies, half the epochs": {"copies": 2.0, "epochs": 0.5},
    "half the epochs": {"epochs": 0.5},
    "half the width": {"width": 0.5},
    "one and a half the width": {"width": 1.5},
}
SMALL_SETTINGS = {
    CHOSEN: {},
    "T = 1": {"small_temperature": 1.0},
    "T = 5": {"small_temperature": 5.0},
    "a third of the epochs": {"small_epochs": 1 / 3},
    "twice the epochs": {"small_epochs": 2.0},
}
_FACTORS = ("copies", "epochs", "width", "small_epochs")


def plan(study):
    """Returns the list of tasks to do first."""
    return [
        *(
            each
            for changed in _change_all(study, SETTINGS).values()
            for each in (
                *changed.plan_members(0),
                ensemble.plan_student(changed, 0),
                *ensemble.plan_controls(changed, 0).values(),
            )
        ),
        *(
            each
            for changed in _change_all(study, SMALL_SETTINGS).values()
            for each in (
                small_data.plan_soft(changed, _SMALL, 0),
                *small_data.plan_hard(changed, _SMALL, 0).values(),
            )
        ),
    ]


def measure(study):
    """Returns what came out, as a dict: shares of development frames."""
    found = {}
    for name, changed in _change_all(study, SETTINGS).items():
        members = changed.plan_members(0)
        found[name] = {
            "baseline": float(
                np.mean([_find_last(study, each) for each in members])
            ),
            "ensemble": changed.measure_development(members),
            "student": _find_last(study, ensemble.plan_student(changed, 0)),
            "controls": {
                each.epochs: _find_last(study, each)
                for each in ensemble.plan_controls(changed, 0).values()
            },
        }
    small = {}
    for name, changed in _change_all(study, SMALL_SETTINGS).items():
        soft = small_data.plan_soft(changed, _SMALL, 0)
        small[name] = {
            "soft targets": {
                "last": _find_last(study, soft),
                "best": small_data.find_best(study, soft),
            },
            "labels": {
                each.epochs: small_data.find_best(study, each)
                for each in small_data.plan_hard(changed, _SMALL, 0).values()
            },
        }
    return {"ensemble": found, "small data": small}


def show(results, folder):
    """Returns the tables in Markdown."""
    return "\n\n".join(
        (
            _format_ensemble(results["ensemble"]),
            _format_small(results["small data"]),
        )
    )


def _change_all(study, settings):
    """Returns a dict from names to studies of other scales."""
    return {
        name: dataclasses.replace(study, scale=_change(study.scale, changes))
        for name, changes in settings.items()
    }


def _change(scale, changes):
    """Returns a scale with other settings, and small ensembles."""
    changes = dict(changes)
    for field in _FACTORS:
        if field in changes:
            factor = changes[field]
            changes[field] = max(1, round(factor * getattr(scale, field)))
    members = min(_MEMBERS, scale.members)
    return dataclasses.replace(scale, members=members, **changes)


def _find_last(study, model):
    """Returns the share of development frames after the last epoch."""
    return model.load_history(study.root)["val_accuracy"][-1]


def _format_ensemble(found):
    rows = [
        [
            "setting",
            "members",
            "ensemble",
            "student",
            "of the gain, in %",
            "labels, best number of epochs",
        ]
    ]
    for name, each in found.items():
        own, together = each["baseline"], each["ensemble"]
        kept = (each["student"] - own) / (together - own)
        rows.append(
            [
                name,
                *(
                    f"{100 * each[key]:.2f}"
                    for key in ("baseline", "ensemble", "student")
                ),
                f"{100 * kept:.0f}",
                _format_best(each["controls"]),
            ]
        )
    return format_markdown(rows)


def _format_small(found):
    rows = [
        [
            "setting, 3 % of the data",
            "soft targets, last epoch",
            "best epoch",
            "labels, best epoch of the best number of epochs",
        ]
    ]
    for name, each in found.items():
        soft = each["soft targets"]
        rows.append(
            [
                name,
                f"{100 * soft['last']:.2f}",
                f"{100 * soft['best']:.2f}",
                _format_best(each["labels"]),
            ]
        )
    return format_markdown(rows)


def _format_best(sweep):
    """Returns the cell of the best share, and its number of epochs."""
    epochs = max(sweep, key=sweep.get)
    return f"{100 * sweep[epochs]:.2f} ({epochs})"

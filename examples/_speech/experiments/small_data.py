"""Soft targets as regularizers: a small share of the data (section 6)."""

import numpy as np

from _speech import tables
from keras_distill import plots
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "Little data"

HARD = "labels"
SOFT = "soft targets"
FULL = "all data, labels"

# Of the networks that learn from labels and are stopped early, of those that
# learn from soft targets: the learning rate falls to 0 within them.
EPOCHS = (0.1, 0.3, 1.0)

# Frames of the test that are right, in percent. (No word error rates.)
_PAPER = {
    f"3%, {HARD}, early stopping": (44.5, None),
    f"3%, {SOFT}": (57.0, None),
    FULL: (58.9, None),
}
_LOGS = ("accuracy", "val_accuracy")


def plan(study):
    """Returns the list of tasks to do first."""
    return [
        *(each for seed in _plan_full(study) for each in seed),
        *(
            study.plan_judgement((model,))
            for fraction in study.scale.fractions
            for seed in range(study.scale.seeds)
            for model in (
                plan_soft(study, fraction, seed),
                *plan_hard(study, fraction, seed).values(),
            )
        ),
    ]


def measure(study):
    """Returns what came out, as a dict."""
    full = _plan_full(study)
    systems = {FULL: study.describe(full)}
    fractions = {}
    for fraction in study.scale.fractions:
        seeds = range(study.scale.seeds)
        soft = [plan_soft(study, fraction, seed) for seed in seeds]
        sweep = [plan_hard(study, fraction, seed) for seed in seeds]
        best = {
            epochs: float(
                np.mean([find_best(study, each[epochs]) for each in sweep])
            )
            for epochs in sweep[0]
        }
        epochs = max(best, key=best.get)
        hard = [each[epochs] for each in sweep]
        judgements = {
            name: [study.plan_judgements([each]) for each in models]
            for name, models in ((HARD, hard), (SOFT, soft))
        }
        systems |= {
            f"{fraction:.0%}, {HARD}, early stopping": study.describe(
                judgements[HARD]
            ),
            f"{fraction:.0%}, {SOFT}": study.describe(judgements[SOFT]),
        }
        fractions[f"{fraction:.0%}"] = {
            "epochs": {HARD: epochs, SOFT: soft[0].epochs},
            "sweep": best,
            "difference": study.compare(judgements[SOFT], judgements[HARD]),
            "recovered": _measure_recovered(systems, fraction),
            # That of the labels is the longest, so that both have as many
            # epochs.
            "curves": {
                HARD: [_load_curve(study, each[max(each)]) for each in sweep],
                SOFT: [_load_curve(study, each) for each in soft],
            },
        }
    return {"systems": systems, "fractions": fractions}


def show(results, folder):
    """Returns the tables in Markdown, and draws the learning curves."""
    least, found = next(iter(results["fractions"].items()))
    figure = plots.learning_curves(
        {
            f"{least}, {name}": seeds[0]
            for name, seeds in found["curves"].items()
        },
        ["accuracy"],
    )
    figure.savefig(folder / "small_data.png", dpi=150)
    return (
        f"{tables.format_systems(results['systems'], _PAPER)}\n\n"
        f"{_format_fractions(results['fractions'])}"
    )


def plan_soft(study, fraction, seed):
    """Returns what learns from the soft targets of a baseline."""
    scale = study.scale
    copies = study.plan_train(fraction, seed)
    return study.plan_model(
        f"{fraction:.0%}, {SOFT}",
        seed,
        copies,
        scale.small_epochs,
        soft_targets=study.plan_soft_targets(
            (_plan_teacher(study, seed),), copies, scale.small_temperature
        ),
    )


def plan_hard(study, fraction, seed):
    """Returns a dict from epochs to what learns from labels."""
    longest = study.scale.small_epochs
    return {
        epochs: study.plan_model(
            f"{fraction:.0%}, {HARD}",
            seed,
            study.plan_train(fraction, seed),
            epochs,
            early_stopping=True,
        )
        for epochs in sorted(
            {max(1, round(longest * times)) for times in EPOCHS}
        )
    }


def _plan_teacher(study, seed):
    """Returns the baseline that has seen all data."""
    return study.plan_members(seed)[0]


def _plan_full(study):
    """Returns the judgements of the teachers, by seed."""
    return [
        study.plan_judgements([_plan_teacher(study, seed)])
        for seed in range(study.scale.seeds)
    ]


def _measure_recovered(systems, fraction):
    """Returns the share of the gap to all data that is closed, in percent."""
    hard, soft, full = (
        np.array(systems[name]["frames"])
        for name in (
            f"{fraction:.0%}, {HARD}, early stopping",
            f"{fraction:.0%}, {SOFT}",
            FULL,
        )
    )
    return (100 * (soft - hard) / (full - hard)).tolist()


def _load_curve(study, model):
    history = model.load_history(study.root)
    return {name: history[name] for name in _LOGS}


def find_best(study, model):
    """Returns the best share of development frames of all epochs."""
    return max(model.load_history(study.root)["val_accuracy"])


def _format_fractions(fractions):
    """Returns the table of what soft targets do for each share."""
    rows = [
        [
            "share of the data",
            "soft targets - labels, in points",
            "of the gap to all data, in %",
            "development: labels, last and best epoch",
            "soft targets, last and best epoch",
        ]
    ]
    for name, found in fractions.items():
        difference = found["difference"]
        rows.append(
            [
                name,
                tables.format_interval(
                    difference["frames"],
                    difference["frames_interval"],
                    "{:+.1f}",
                ),
                format_range(found["recovered"], "{:.0f}"),
                *(
                    ", ".join(
                        format_range(
                            [
                                100 * each(curve["val_accuracy"])
                                for curve in curves
                            ],
                            "{:.1f}",
                        )
                        for each in (lambda values: values[-1], max)
                    )
                    for curves in found["curves"].values()
                ),
            ]
        )
    return format_markdown(rows)

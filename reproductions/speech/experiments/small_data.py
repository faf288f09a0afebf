"""Soft targets as regularizers: a small share of the data (section 6)."""

import itertools

from keras_distill import plots
from keras_distill.evaluation.tables import format_markdown
from reproductions.speech import tables
from reproductions.speech.study import BASELINE

TITLE = "Little data"

HARD = "labels"
SOFT = "soft targets"
FULL = f"all data, {BASELINE}"

# Frames of the training and of the test that are right, in percent. (The paper
# has no word error rates here.)
_PAPER = {
    FULL: (63.4, 58.9, None),
    f"3%, {HARD}": (67.3, 44.5, None),
    f"3%, {SOFT}": (65.4, 57.0, None),
}
_PAPER_SHARES = {"3%": (57.0 - 44.5) / (58.9 - 44.5)}
_LOGS = ("accuracy", "val_accuracy")


def plan(study):
    """Returns the list of tasks to do first."""
    seeds = range(study.scale.seeds)
    return [
        model
        for fraction in study.scale.fractions
        for model in (
            *(plan_soft(study, fraction, seed) for seed in seeds),
            *itertools.chain(*plan_sweep(study, fraction).values()),
        )
    ]


def plan_judgements(study):
    """Returns the list of tasks to do then, of what was chosen."""
    return [*itertools.chain(*_plan_systems(study).values())]


def measure(study):
    """Returns what came out, as a dict."""
    planned = _plan_systems(study)
    return {
        "systems": {
            name: study.describe(each) for name, each in planned.items()
        },
        "fractions": {
            f"{fraction:.0%}": _measure(study, fraction, planned)
            for fraction in study.scale.fractions
        },
    }


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
    return "\n\n".join(
        (
            tables.format_systems(results["systems"], _PAPER),
            tables.describe_decoders(results["systems"]),
            _format_differences(results["fractions"]),
            _format_stopping(results["fractions"]),
        )
    )


def plan_soft(study, fraction, seed):
    """Returns what learns from the soft targets of a baseline."""
    scale = study.scale
    copies = study.plan_train(fraction, seed)
    return study.plan_student(
        f"{fraction:.0%}, {SOFT}",
        seed,
        copies,
        scale.small_epochs,
        soft_targets=study.plan_soft_targets(
            (_plan_teacher(study, seed),), copies, scale.small_temperature
        ),
    )


def plan_sweep(study, fraction):
    """Returns a dict from numbers of epochs to networks that learn from labels.

    They are stopped early.
    """
    return {
        epochs: [
            study.plan_student(
                f"{fraction:.0%}, {HARD}",
                seed,
                study.plan_train(fraction, seed),
                epochs,
                early_stopping=True,
            )
            for seed in range(study.scale.seeds)
        ]
        for epochs in study.scale.small_control_epochs
    }


def _plan_teacher(study, seed):
    """Returns the baseline that has seen all data."""
    return study.plan_members(seed)[0]


def _plan_systems(study):
    """Returns a dict from systems to a list of judgements."""
    seeds = range(study.scale.seeds)
    judge = study.plan_judgement
    planned = {FULL: [judge(_plan_teacher(study, seed)) for seed in seeds]}
    for fraction in study.scale.fractions:
        sweep = plan_sweep(study, fraction)
        chosen, _ = study.find_best_epochs(sweep)
        planned[f"{fraction:.0%}, {HARD}"] = [
            judge(each) for each in sweep[chosen]
        ]
        planned[f"{fraction:.0%}, {SOFT}"] = [
            judge(plan_soft(study, fraction, seed)) for seed in seeds
        ]
    return planned


def _measure(study, fraction, planned):
    """Returns what came out with a share of the data, as a dict."""
    hard, soft = (planned[f"{fraction:.0%}, {name}"] for name in (HARD, SOFT))
    sweep = plan_sweep(study, fraction)
    chosen, reached = study.find_best_epochs(sweep)
    seeds = range(study.scale.seeds)
    models = {
        # For as many epochs as with soft targets.
        HARD: sweep[max(sweep)],
        SOFT: [plan_soft(study, fraction, seed) for seed in seeds],
    }
    return {
        "sweep": {"chosen": chosen, "development": reached},
        "difference": study.compare(soft, hard),
        "recovered": study.measure_share(hard, soft, planned[FULL]),
        "curves": {
            name: [_load_curve(study, each) for each in those]
            for name, those in models.items()
        },
    }


def _load_curve(study, model):
    history = model.load_history(study.root)
    return {name: history[name] for name in _LOGS}


def _format_differences(fractions):
    """Returns the table of what soft targets do for each share."""
    rows = [
        [
            "share of the data",
            "soft targets - labels, in points",
            "each seed",
            "of the gap to all data, in %",
            "each seed",
            "paper",
            "development: labels, best epoch (of so many)",
        ]
    ]
    for name, found in fractions.items():
        difference, recovered = found["difference"], found["recovered"]
        sweep = found["sweep"]
        rows.append(
            [
                name,
                tables.format_interval(
                    difference["frames"],
                    difference["frames_interval"],
                    "{:+.1f}",
                ),
                tables.format_by_seed(difference["frames_by_seed"], "{:+.1f}"),
                tables.format_interval(
                    recovered["share"], recovered["interval"], "{:.0f}"
                ),
                tables.format_by_seed(recovered["by_seed"], "{:.0f}"),
                f"{100 * _PAPER_SHARES[name]:.0f}"
                if name in _PAPER_SHARES
                else "",
                tables.format_sweep(sweep["development"], sweep["chosen"]),
            ]
        )
    return format_markdown(rows)


def _format_stopping(fractions):
    """Returns the table of what is lost without early stopping."""
    rows = [
        [
            "share of the data, not stopped early",
            "epochs",
            "development: last epoch",
            "best epoch",
            "lost by a network, at most",
        ]
    ]
    for fraction, found in fractions.items():
        for name, curves in found["curves"].items():
            reached = [curve["val_accuracy"] for curve in curves]
            lost = max(max(each) - each[-1] for each in reached)
            rows.append(
                [
                    f"{fraction}, {name}",
                    str(len(reached[0])),
                    tables.format_mean([each[-1] for each in reached]),
                    tables.format_mean([max(each) for each in reached]),
                    f"{100 * lost:.2f}",
                ]
            )
    return format_markdown(rows)

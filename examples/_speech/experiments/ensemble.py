"""An ensemble, and the single network that takes its place (section 4)."""

import numpy as np

from _speech import tables
from _speech.study import BASELINE
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "An ensemble into one network"

ENSEMBLE = "ensemble"
STUDENT = "student, distilled"
CONTROL = "student, labels"

# Of the networks that learn from labels, times those of a baseline. The largest
# is a student's.
EPOCHS = (1, 2)

# Frames of the test that are right, and the word error rate, in percent.
_PAPER = {BASELINE: (58.9, 10.9), ENSEMBLE: (61.1, 10.7), STUDENT: (60.8, 10.7)}


def plan(study):
    """Returns the list of tasks to do first."""
    return [
        task
        for seeds in _plan(study).values()
        for seed in seeds
        for task in seed
    ]


def measure(study):
    """Returns what came out, as a dict."""
    planned = _plan(study)
    systems = {name: study.describe(each) for name, each in planned.items()}
    controls = [name for name in systems if name.startswith(CONTROL)]
    best = max(controls, key=lambda name: np.mean(systems[name]["development"]))
    return {
        "systems": systems,
        "best_control": best,
        "gain_kept": measure_gain_kept(systems),
        "differences": {
            f"{ours} - {theirs}": study.compare(planned[ours], planned[theirs])
            for ours, theirs in (
                (ENSEMBLE, BASELINE),
                (STUDENT, BASELINE),
                (STUDENT, ENSEMBLE),
                (STUDENT, best),
            )
        },
    }


def show(results, folder):
    """Returns the tables in Markdown."""
    kept = format_range(results["gain_kept"], "{:.0f}")
    return (
        f"{tables.format_systems(results['systems'], _PAPER)}\n\n"
        f"Of the gain of the ensemble the student keeps {kept} %. The best of "
        f"those that learn from labels, on the development strings, is "
        f"{results['best_control']}.\n\n"
        f"{_format_differences(results['differences'])}"
    )


def plan_student(study, seed):
    """Returns the student of the ensemble of a seed."""
    scale = study.scale
    return study.plan_model(
        STUDENT,
        seed,
        study.plan_train(),
        scale.epochs * scale.patience,
        soft_targets=study.plan_soft_targets(
            study.plan_members(seed), study.plan_train(), scale.temperature
        ),
        hard_weight=scale.hard_weight,
    )


def plan_controls(study, seed):
    """Returns a dict from names to networks that learn from labels."""
    scale = study.scale
    return {
        f"{CONTROL}, {epochs} epochs": study.plan_model(
            # The shortest are baselines, and not trained again.
            BASELINE,
            seed * scale.members,
            study.plan_train(),
            epochs,
        )
        for epochs in sorted(
            {scale.epochs * times for times in (*EPOCHS, scale.patience)}
        )
    }


def measure_gain_kept(systems):
    """Returns the share of the ensemble's gain that is kept, in percent."""
    own, together, student = (
        np.array(systems[name]["frames"])
        for name in (BASELINE, ENSEMBLE, STUDENT)
    )
    return (100 * (student - own) / (together - own)).tolist()


def _plan(study):
    """Returns a dict from systems to a list of judgements for each seed."""
    planned = {BASELINE: [], ENSEMBLE: [], STUDENT: []}
    for seed in range(study.scale.seeds):
        members = study.plan_members(seed)
        planned[BASELINE].append(study.plan_judgements(members))
        planned[ENSEMBLE].append([study.plan_judgement(members)])
        student = plan_student(study, seed)
        planned[STUDENT].append(study.plan_judgements([student]))
        for name, each in plan_controls(study, seed).items():
            planned.setdefault(name, []).append(study.plan_judgements([each]))
    return planned


def _format_differences(differences):
    """Returns the table of the differences of two systems."""
    return format_markdown(
        [
            ["difference", "frames, in points", "word error rate, in points"],
            *(
                [
                    name,
                    *(
                        tables.format_interval(
                            each[key], each[f"{key}_interval"], "{:+.1f}"
                        )
                        for key in ("frames", "word_error_rate")
                    ),
                ]
                for name, each in differences.items()
            ),
        ]
    )

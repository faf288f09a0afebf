"""The teacher, the student from labels, and the distilled student."""

import keras_distill
from _mnist.study import HARD
from _mnist.study import SOFT
from _mnist.study import TEACHER

TITLE = "Teacher, student, distilled student"
HARD_JITTER = f"{HARD}, jitter"
SOFT_JITTER = f"{SOFT}, jitter"


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [run for seed in study.seeds for run in _rows(study, seed).values()]


def measure(study):
    """Returns what came out, as a dict."""
    reports = [study.compare(_rows(study, seed)) for seed in study.seeds]
    summary = keras_distill.summarize(reports)
    return {
        "models": summary.to_dict(),
        "table": summary.to_markdown(),
        "mcnemar": {
            soft: [report.mcnemar(soft, hard)._asdict() for report in reports]
            for soft, hard in ((SOFT, HARD), (SOFT_JITTER, HARD_JITTER))
        },
    }


def show(results, folder):
    """Returns the table in Markdown."""
    p_values = [
        each["p_value"] for rows in results["mcnemar"].values() for each in rows
    ]
    return (
        f"{results['table']}\n\nMcNemar's test of each seed, distilled against "
        "labels, both without jitter and both with: the largest p is "
        f"{max(p_values):.2g}."
    )


def _rows(study, seed):
    """Returns the `Run` of each row of the table."""
    scale = study.scale
    return {
        TEACHER: study.plan_teacher(seed),
        HARD: study.plan_student(seed, HARD, scale.hard, soft=False),
        SOFT: plan_distilled(study, seed),
        HARD_JITTER: study.plan_student(
            seed, HARD_JITTER, scale.hard_jitter, soft=False, jitter=True
        ),
        SOFT_JITTER: plan_distilled_on_shifts(study, seed),
    }


def plan_distilled(study, seed):
    """Returns the `Run` of the student that is distilled as in the paper."""
    return study.plan_student(seed, SOFT, study.scale.soft)


def plan_distilled_on_shifts(study, seed):
    """Returns the `Run` of the student that sees what its teacher saw."""
    return study.plan_student(
        seed, SOFT_JITTER, study.scale.soft_jitter, jitter=True
    )

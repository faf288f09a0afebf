"""The teacher, the student from labels, and the distilled student."""

import keras_distill
from reproductions.mnist.study import HARD
from reproductions.mnist.study import SOFT
from reproductions.mnist.study import TEACHER

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
    without, with_jitter = (
        max(each["p_value"] for each in seeds)
        for seeds in results["mcnemar"].values()
    )
    return (
        f"{results['table']}\n\nMcNemar's test of each seed, distilled against "
        f"labels: p is {without:.2g} at most without jitter, and "
        f"{with_jitter:.2g} with it."
    )


def _rows(study, seed):
    """Returns the `Run` of each row of the table."""
    return {
        TEACHER: study.plan_teacher(seed),
        HARD: study.plan_labels(seed),
        SOFT: plan_distilled(study, seed),
        HARD_JITTER: plan_labels_on_shifts(study, seed),
        SOFT_JITTER: plan_distilled_on_shifts(study, seed),
    }


def plan_distilled(study, seed):
    """Returns the `Run` of the student that is distilled as in the paper."""
    return study.plan_student(seed, SOFT, study.scale.soft)


def plan_labels_on_shifts(study, seed):
    """Returns the `Run` of the student that sees labels of shifted images."""
    return study.plan_student(
        seed,
        HARD_JITTER,
        study.scale.hard_jitter,
        soft=False,
        jitter=study.scale.jitter,
    )


def plan_distilled_on_shifts(study, seed):
    """Returns the `Run` of the student that sees what its teacher saw."""
    return study.plan_student(
        seed,
        SOFT_JITTER,
        study.scale.soft_jitter,
        jitter=study.scale.jitter,
    )

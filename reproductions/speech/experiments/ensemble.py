"""An ensemble, and the single network that takes its place (section 4)."""

import itertools

from keras_distill import plots
from keras_distill.evaluation.tables import format_markdown
from reproductions.speech import tables
from reproductions.speech.study import BASELINE

TITLE = "An ensemble into one network"

ENSEMBLE = "ensemble"
STUDENT = "student, distilled"
CONTROL = "student, labels"
BEST = "labels, best number of epochs"

# Frames of the training and of the test that are right, and the word error
# rate, in percent.
_PAPER = {
    BASELINE: (63.4, 58.9, 10.9),
    ENSEMBLE: (None, 61.1, 10.7),
    STUDENT: (None, 60.8, 10.7),
}
_PAPER_SHARE = (60.8 - 58.9) / (61.1 - 58.9)


def plan(study):
    """Returns the list of tasks to do first."""
    return [
        *itertools.chain(*plan_sweep(study).values()),
        *(plan_student(study, seed) for seed in range(study.scale.seeds)),
    ]


def plan_judgements(study):
    """Returns the list of tasks to do then, of what was chosen."""
    return [*itertools.chain(*_plan_systems(study).values())]


def measure(study):
    """Returns what came out, as a dict."""
    planned = _plan_systems(study)
    chosen, sweep = study.find_best_epochs(plan_sweep(study))
    return {
        "systems": {
            name: study.describe(each) for name, each in planned.items()
        },
        "sweep": {"chosen": chosen, "development": sweep},
        "gain_kept": {
            name: study.measure_share(
                planned[name], planned[STUDENT], planned[ENSEMBLE]
            )
            for name in (BASELINE, BEST)
        },
        "differences": {
            f"{ours} - {theirs}": study.compare(planned[ours], planned[theirs])
            for ours, theirs in (
                (ENSEMBLE, BASELINE),
                (STUDENT, BASELINE),
                (STUDENT, CONTROL),
                (STUDENT, BEST),
                (STUDENT, ENSEMBLE),
            )
        },
        "curves": {
            each.name: each.load_history(study.root)
            for each in (
                plan_student(study, 0),
                plan_control(study, 0, study.scale.student_epochs),
            )
        },
    }


def show(results, folder):
    """Returns the tables in Markdown, and draws the learning curves."""
    figure = plots.learning_curves(
        {
            name: {key: history[key] for key in ("accuracy", "val_accuracy")}
            for name, history in results["curves"].items()
        },
        ["accuracy"],
    )
    figure.savefig(folder / "ensemble.png", dpi=150)
    sweep = results["sweep"]
    kept = results["gain_kept"]
    return "\n\n".join(
        (
            tables.format_systems(results["systems"], _PAPER),
            tables.describe_decoders(results["systems"]),
            _format_gain(kept),
            "Development frames that are right after so many epochs with "
            "labels, in percent: "
            f"{tables.format_sweep(sweep['development'], sweep['chosen'])}.",
            _format_differences(results["differences"]),
        )
    )


def plan_student(study, seed):
    """Returns the student of the ensemble of a seed."""
    scale = study.scale
    return study.plan_student(
        STUDENT,
        seed,
        study.plan_train(),
        scale.student_epochs,
        soft_targets=study.plan_soft_targets(
            study.plan_members(seed), study.plan_train(), scale.temperature
        ),
        hard_weight=scale.hard_weight,
    )


def plan_control(study, seed, epochs):
    """Returns what a student is compared with: it learns from labels."""
    return study.plan_student(CONTROL, seed, study.plan_train(), epochs)


def plan_sweep(study):
    """Returns a dict from numbers of epochs to networks that learn from labels.

    Those of the ensembles are among them.
    """
    scale = study.scale
    return {
        epochs: _list_members(study)
        if epochs == scale.epochs
        else [plan_control(study, seed, epochs) for seed in range(scale.seeds)]
        for epochs in sorted({scale.epochs, *scale.control_epochs})
    }


def _list_members(study):
    """Returns the members of the ensembles of all seeds."""
    every = map(study.plan_members, range(study.scale.seeds))
    return [*itertools.chain(*every)]


def _plan_systems(study):
    """Returns a dict from systems to a list of judgements."""
    seeds = range(study.scale.seeds)
    sweep = plan_sweep(study)
    chosen, _ = study.find_best_epochs(sweep)
    # For as many epochs as the student.
    alike = sweep[study.scale.student_epochs]
    judge = study.plan_judgement
    return {
        BASELINE: [judge(each) for each in _list_members(study)],
        ENSEMBLE: [judge(*study.plan_members(seed)) for seed in seeds],
        STUDENT: [judge(plan_student(study, seed)) for seed in seeds],
        CONTROL: [judge(each) for each in alike],
        BEST: [judge(each) for each in sweep[chosen]],
    }


def _format_gain(kept):
    """Returns the table of how much of the gain is kept."""
    return format_markdown(
        [
            [
                "of the gain of the ensemble the student keeps, in %",
                "here",
                "each seed",
                "paper",
            ],
            *(
                [
                    f"over {name}",
                    tables.format_interval(
                        each["share"], each["interval"], "{:.0f}"
                    ),
                    tables.format_by_seed(each["by_seed"], "{:.0f}"),
                    f"{100 * _PAPER_SHARE:.0f}" if name == BASELINE else "",
                ]
                for name, each in kept.items()
            ),
        ]
    )


def _format_differences(differences):
    """Returns the table of the differences of two systems."""
    return format_markdown(
        [
            [
                "difference",
                "frames, in points",
                "each seed",
                "word errors, in points",
                "each seed",
            ],
            *(
                [
                    name,
                    *(
                        cell
                        for key in ("frames", "word_error_rate")
                        for cell in (
                            tables.format_interval(
                                each[key], each[f"{key}_interval"], "{:+.1f}"
                            ),
                            tables.format_by_seed(
                                each[f"{key}_by_seed"], "{:+.1f}"
                            ),
                        )
                    ),
                ]
                for name, each in differences.items()
            ),
        ]
    )

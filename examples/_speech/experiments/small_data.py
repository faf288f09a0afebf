"""Soft targets as regularizers: a small share of the data (section 6)."""

from keras_distill import plots
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "Little data"

HARD = "labels, early stopping"
SOFT = "soft targets"
FULL = "all data, labels"


def plan(study):
    """Returns the list of tasks to do first."""
    return [
        study.plan_copies("test"),
        *(
            each
            for fraction in study.scale.fractions
            for seed in range(study.scale.seeds)
            for each in _plan(study, fraction, seed).values()
        ),
    ]


def plan_chosen(study):
    """Returns the list of tasks that depend on choices."""
    return []


def measure(study):
    """Returns what came out, as a dict."""
    seeds = range(study.scale.seeds)
    judged = {
        FULL: [
            study.judge(_plan_teacher(study, seed).load(study.root))
            for seed in seeds
        ]
    }
    curves = {}
    for fraction in study.scale.fractions:
        for name in (HARD, SOFT):
            arms = [_plan(study, fraction, seed)[name] for seed in seeds]
            judged[f"{fraction:.0%}, {name}"] = [
                study.judge(each.load(study.root)) for each in arms
            ]
            curves[f"{fraction:.0%}, {name}"] = [
                {
                    key: each.load_history(study.root)[key]
                    for key in ("accuracy", "val_accuracy")
                }
                for each in arms
            ]
    return {"judged": judged, "curves": curves}


def show(results, folder):
    """Returns the table in Markdown, and draws the learning curves."""
    rows = [
        [
            "trained on",
            "frames right in %: training",
            "development, last epoch",
            "development, best epoch",
            "test",
            "word error rate in %",
        ]
    ]
    for name, seeds in results["judged"].items():
        curves = results["curves"].get(name)
        rows.append(
            [
                name,
                *_format_curves(curves),
                format_range(
                    [100 * each["frames"] for each in seeds], "{:.1f}"
                ),
                format_range(
                    [100 * each["word_error_rate"] for each in seeds], "{:.1f}"
                ),
            ]
        )
    least = next(iter(results["curves"])).split(",")[0]
    figure = plots.learning_curves(
        {
            name.split(", ", 1)[1]: curves[0]
            for name, curves in results["curves"].items()
            if name.startswith(f"{least},")
        },
        ["accuracy"],
    )
    figure.savefig(folder / "small_data.png", dpi=150)
    return format_markdown(rows)


def _plan_teacher(study, seed):
    """Returns the baseline that has seen all data."""
    return study.plan_members(seed)[0]


def _plan(study, fraction, seed):
    """Returns the two arms on a share of the data."""
    copies = study.plan_train(fraction, seed)
    epochs = study.scale.small_epochs
    return {
        HARD: study.plan_model(
            f"{fraction:.0%}, {HARD}", seed, copies, epochs, early_stopping=True
        ),
        SOFT: study.plan_model(
            f"{fraction:.0%}, {SOFT}",
            seed,
            copies,
            epochs,
            soft_targets=study.plan_soft_targets(
                (_plan_teacher(study, seed),), copies, 2.0
            ),
        ),
    }


def _format_curves(curves):
    """Returns the cells of the accuracy after the last and the best epoch."""
    if curves is None:
        return ["", "", ""]
    return [
        format_range([100 * each(curve) for curve in curves], "{:.1f}")
        for each in (
            lambda curve: curve["accuracy"][-1],
            lambda curve: curve["val_accuracy"][-1],
            lambda curve: max(curve["val_accuracy"]),
        )
    ]

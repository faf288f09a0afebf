"""How much a training image tells, with a label or with a soft target."""

import dataclasses

from keras_distill import plots
from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist.figures import save_errors
from reproductions.mnist.study import HARD
from reproductions.mnist.study import SOFT

TITLE = "Less data"

FRACTIONS = (0.01, 0.03, 0.1, 1.0)


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [run for each in _plan(study).values() for run in each]


def measure(study):
    """Returns what came out, as a dict."""
    errors = study.count_errors(_plan(study))
    return {
        "train_size": len(study.train.labels),
        **{
            name: {str(f): errors[name, f] for f in FRACTIONS}
            for name in (HARD, SOFT)
        },
    }


def show(results, folder):
    """Returns the table in Markdown, and draws the figure."""
    counts = {f: round(f * results["train_size"]) for f in FRACTIONS}
    errors = {
        name: {counts[f]: results[name][str(f)] for f in FRACTIONS}
        for name in (HARD, SOFT)
    }
    figure = plots.error_against_examples(errors, "errors")
    save_errors(figure, folder / "fractions.png")
    return format_markdown(
        [
            ["training images", *errors],
            *(
                [
                    f"{count:,} ({fraction:.0%})",
                    *(format_range(row[count]) for row in errors.values()),
                ]
                for fraction, count in counts.items()
            ),
        ]
    )


def _plan(study):
    """Returns a dict from a name and a fraction to a run for each seed."""
    return {
        (name, fraction): [
            study.plan_student(
                seed,
                f"{name}, {fraction:.0%} of the images",
                _adapt(study.scale.fractions, fraction),
                soft=name == SOFT,
                fraction=fraction,
            )
            for seed in study.seeds
        ]
        for name in (HARD, SOFT)
        for fraction in FRACTIONS
    }


def _adapt(recipe, fraction):
    """Returns a recipe with more epochs of fewer images.

    Fewer steps in all than with all images, as there is less to learn: with
    the square root of the fraction.
    """
    return dataclasses.replace(
        recipe, epochs=round(recipe.epochs * fraction**-0.5)
    )

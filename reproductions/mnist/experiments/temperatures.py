"""The temperature, for students of several widths."""

import dataclasses
import math

from keras_distill import plots
from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist.figures import save_errors
from reproductions.mnist.study import HARD
from reproductions.mnist.study import SOFT

TITLE = "The temperature"

TEMPERATURES = (1.0, 2.0, 2.5, 4.0, 8.0, 20.0, 50.0, math.inf)
# How many times as many epochs as the others a width has: so small a student
# needs more, and costs hardly anything.
WIDTHS = {800: 1, 300: 1, 30: 4}
LABELS = "labels"


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [run for each in _plan(study).values() for run in each]


def measure(study):
    """Returns what came out, as a dict."""
    errors = study.count_errors(_plan(study))
    return {
        str(width): {str(t): errors[width, t] for t in (*TEMPERATURES, LABELS)}
        for width in WIDTHS
    }


def show(results, folder):
    """Returns the table in Markdown, and draws the figure."""
    errors = {
        f"{width} units": {t: row[str(t)] for t in TEMPERATURES}
        for width, row in results.items()
    }
    figure = plots.error_against_temperature(errors, "errors")
    save_errors(figure, folder / "temperatures.png")
    return format_markdown(
        [
            ["T", *errors],
            *(
                [
                    "∞ (`LogitMatching`)" if t == math.inf else f"{t:g}",
                    *(format_range(row[t]) for row in errors.values()),
                ]
                for t in TEMPERATURES
            ),
            [
                LABELS,
                *(format_range(row[LABELS]) for row in results.values()),
            ],
        ]
    )


def _plan(study):
    """Returns a dict from width and temperature to a run for each seed."""
    planned = {}
    for width, times in WIDTHS.items():
        sweep = study.scale.sweep
        recipe = dataclasses.replace(sweep, epochs=times * sweep.epochs)
        for t in TEMPERATURES:
            planned[width, t] = [
                study.plan_student(
                    seed,
                    f"{SOFT}, {width} units, T = {t:g}",
                    recipe,
                    width=width,
                    temperature=t,
                )
                for seed in study.seeds
            ]
        planned[width, LABELS] = [
            study.plan_student(
                seed,
                f"{HARD}, {width} units",
                recipe,
                soft=False,
                width=width,
            )
            for seed in study.seeds
        ]
    return planned

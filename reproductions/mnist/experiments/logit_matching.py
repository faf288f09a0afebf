"""With a high temperature soft targets turn into matching logits."""

import math

import numpy as np
import tensorflow as tf

from keras_distill import plots
from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist import data
from reproductions.mnist import runs
from reproductions.mnist.experiments.errors import plan_distilled

TITLE = "The limit of high temperatures"

TEMPERATURES = (1, 2, 4, 8, 20, 50, 100, 1000)
IMAGES = 1000
STAGES = ("before training", "after training")


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [plan_distilled(study, seed) for seed in study.seeds]


def measure(study):
    """Returns what came out, as a dict."""
    cosines = {stage: {str(t): [] for t in TEMPERATURES} for stage in STAGES}
    images = data.scale(study.train.images[:IMAGES])
    for run in plan(study):
        students = {
            STAGES[0]: runs.build(run),
            STAGES[1]: run.load(study.root),
        }
        (teacher,) = run.teachers
        shifts = teacher.load_soft_targets(study.root)
        logits = shifts[data.NO_SHIFT, :IMAGES]
        for stage, student in students.items():
            limit = compute_gradient(student, images, logits, math.inf)
            for t in TEMPERATURES:
                gradient = compute_gradient(student, images, logits, t)
                cosines[stage][str(t)].append(_cosine(gradient, limit))
    return cosines


def show(results, folder):
    """Returns the table in Markdown, and draws the figure."""
    cosines = {
        stage: {int(t): each for t, each in row.items()}
        for stage, row in results.items()
    }
    figure = plots.gradient_cosine(cosines)
    figure.savefig(folder / "logit_matching.png", dpi=150)
    return format_markdown(
        [
            ["T", *cosines],
            *(
                [
                    str(t),
                    *(
                        format_range(row[t], "{:.5f}")
                        for row in cosines.values()
                    ),
                ]
                for t in TEMPERATURES
            ),
        ]
    )


def compute_gradient(student, images, logits, temperature):
    """Returns the gradient of a distillation loss in all weights.

    Args:
        student: The network.
        images: Those that the loss is a mean over.
        logits: The teacher's on them.
        temperature: That of the loss. Infinity is `LogitMatching`.

    Returns:
        Array of float64 of one dimension.
    """
    loss = runs.make_soft_loss(temperature)
    with tf.GradientTape() as tape:
        value = loss(logits, student(images, training=False))
    gradients = tape.gradient(value, student.trainable_variables)
    return np.concatenate([np.float64(each).reshape(-1) for each in gradients])


def _cosine(first, second):
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))

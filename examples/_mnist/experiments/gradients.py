"""How gradients vary between images, and the learning rate that allows."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from _mnist import data
from _mnist import runs
from _mnist.figures import save_errors
from _mnist.study import HARD
from _mnist.study import SOFT
from keras_distill import plots
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "The variance of the gradient"

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# The variance is measured before training and after so many steps.
_STEPS = 100
_STAGES = ("before training", f"after {_STEPS} steps")
_STEPS_LEARNING_RATE = 0.01
_BATCH_SIZE = 128
_IMAGES = 1000


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [run for each in _plan(study).values() for run in each]


def measure(study):
    """Returns what came out, as a dict."""
    errors = study.count_errors(_plan(study))
    measured = [_measure_seed(study, seed) for seed in study.seeds]
    return {
        "variance": {
            name: {
                stage: [each[name][stage] for each in measured]
                for stage in _STAGES
            }
            for name in (HARD, SOFT)
        },
        "errors": {
            name: {str(rate): errors[name, rate] for rate in LEARNING_RATES}
            for name in (HARD, SOFT)
        },
    }


def show(results, folder):
    """Returns the tables in Markdown, and draws the figure."""
    errors = {
        name: {rate: row[str(rate)] for rate in LEARNING_RATES}
        for name, row in results["errors"].items()
    }
    figure = plots.error_against_learning_rate(errors, "errors")
    save_errors(figure, folder / "learning_rates.png")
    variance = format_markdown(
        [
            ["variance of the gradient / squared mean", *results["variance"]],
            *(
                [
                    stage,
                    *(
                        format_range(row[stage], "{:.2f}")
                        for row in results["variance"].values()
                    ),
                ]
                for stage in _STAGES
            ),
        ]
    )
    rates = format_markdown(
        [
            ["learning rate", *errors],
            *(
                [
                    f"{rate:g}",
                    *(format_range(row[rate]) for row in errors.values()),
                ]
                for rate in LEARNING_RATES
            ),
        ]
    )
    return f"{variance}\n\n{rates}"


def measure_variance(model, images, targets, loss):
    """Returns how much the gradient varies between examples.

    With g the gradient of one example in all weights, the trace of its
    covariance over the squared length of its mean:

        (E |g|^2 - |E g|^2) / |E g|^2

    A factor of the loss does not change it. Both are estimated without bias:
    the mean of n examples varies itself, by the trace / n.

    Args:
        model: The network.
        images: Array of shape `(examples, ...)`.
        targets: Array of as many labels or soft targets.
        loss: `keras.losses.Loss`.
    """

    @tf.function
    def compute_gradients(images, targets):
        with tf.GradientTape() as tape:
            value = loss(targets, model(images, training=False))
        return tape.gradient(value, model.trainable_variables)

    @tf.function
    def sum_squares(images, targets):
        total = tf.constant(0.0, "float64")
        for example in tf.range(tf.shape(images)[0]):
            here = slice(example, example + 1)
            total += _square(compute_gradients(images[here], targets[here]))
        return total

    images, targets = tf.constant(images), tf.constant(targets)
    count = len(images)
    mean_square = float(sum_squares(images, targets)) / count
    square_mean = float(_square(compute_gradients(images, targets)))
    trace = (mean_square - square_mean) * count / (count - 1)
    return trace / (square_mean - trace / count)


def _measure_seed(study, seed):
    """Returns the variances by the kind of targets and the stage."""
    images = data.scale(study.train.images[:_IMAGES])
    teacher = study.plan_teacher(seed)
    shifts = teacher.load_soft_targets(study.root)
    # Of images that it is not measured on, as many as the steps need.
    seen = _IMAGES + np.resize(
        np.arange(len(study.train.labels) - _IMAGES), _BATCH_SIZE * _STEPS
    )
    targets = {HARD: study.train.labels, SOFT: shifts[data.NO_SHIFT]}
    losses = {
        HARD: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        SOFT: runs.make_soft_loss(runs.Run.temperature),
    }
    measured = {}
    for name in (HARD, SOFT):
        student = runs.build(
            study.plan_student(seed, name, study.scale.hard, soft=False)
        )
        before = measure_variance(
            student, images, targets[name][:_IMAGES], losses[name]
        )
        student.compile(
            keras.optimizers.SGD(
                _STEPS_LEARNING_RATE, momentum=0.9, nesterov=True
            ),
            losses[name],
        )
        student.fit(
            data.scale(study.train.images[seen]),
            targets[name][seen],
            batch_size=_BATCH_SIZE,
            verbose=0,
        )
        after = measure_variance(
            student, images, targets[name][:_IMAGES], losses[name]
        )
        measured[name] = dict(zip(_STAGES, (before, after), strict=True))
    return measured


def _plan(study):
    """Returns a dict from a name and a learning rate to a run for each seed."""
    return {
        (name, rate): [
            study.plan_student(
                seed,
                f"{name}, learning rate {rate:g}",
                dataclasses.replace(study.scale.rates, learning_rate=rate),
                soft=name == SOFT,
            )
            for seed in study.seeds
        ]
        for name in (HARD, SOFT)
        for rate in LEARNING_RATES
    }


def _square(gradients):
    return tf.add_n(
        [tf.reduce_sum(tf.cast(each, "float64") ** 2) for each in gradients]
    )

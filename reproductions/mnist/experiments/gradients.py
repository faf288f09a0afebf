"""How gradients vary between images, and the learning rate that allows."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_distill import plots
from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist import data
from reproductions.mnist import runs
from reproductions.mnist.figures import save_errors
from reproductions.mnist.study import HARD
from reproductions.mnist.study import SOFT

TITLE = "The variance of the gradient"

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
# The variance is measured before training and after so many steps.
_STEPS = 100
_STEPS_LEARNING_RATE = 0.01
_BATCH_SIZE = 128
_BEFORE = "before training"
# Of targets, in the table.
_KINDS = {HARD: "labels", SOFT: "soft targets"}


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [run for each in _plan(study).values() for run in each]


def measure(study):
    """Returns what came out, as a dict."""
    errors = study.count_errors(_plan(study))
    measured = [_measure_seed(study, seed) for seed in study.seeds]
    return {
        "variance": {
            stage: {
                kind: [each[stage][kind] for each in measured] for kind in kinds
            }
            for stage, kinds in measured[0].items()
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
    kinds = _KINDS.values()
    figure = plots.error_against_learning_rate(errors, "errors")
    save_errors(figure, folder / "learning_rates.png")
    variance = format_markdown(
        [
            [
                "",
                *(f"variance / squared mean, {each}" for each in kinds),
                *(f"length of the mean, {each}" for each in kinds),
            ],
            *(
                [
                    stage,
                    *(
                        format_range(
                            [each[key] for each in row[kind]], "{:.3g}"
                        )
                        for key in ("ratio", "length")
                        for kind in kinds
                    ),
                ]
                for stage, row in results["variance"].items()
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


def measure_variance(model, images, targets, loss, batch_size=1000):
    """Returns how much the gradient varies between examples.

    With g the gradient of one example in all weights, the trace of its
    covariance over the squared length of its mean:

        (E |g|^2 - |E g|^2) / |E g|^2

    A factor of the loss does not change it. Both are estimated without bias:
    the mean of n examples varies itself, by the trace / n. The gradient of one
    example in the weights of a dense layer is the outer product of what comes
    in and of the gradient in what comes out, so that its squared length needs
    none of the products.

    Args:
        model: `keras.Sequential` of dense layers, and layers without weights.
        images: Array of shape `(examples, ...)`.
        targets: Array of as many labels or soft targets.
        loss: `keras.losses.Loss`, a mean over the examples.
        batch_size: Number of examples at a time.

    Returns:
        Dict with the `ratio` above, and the `length` of the mean gradient.
    """

    @tf.function
    def compute(images, targets):
        came_in, came_out = [], []
        with tf.GradientTape() as tape:
            x = images
            for layer in model.layers:
                if not layer.weights:
                    x = layer(x)
                    continue
                came_in.append(x)
                x = x @ layer.kernel + layer.bias
                tape.watch(x)
                came_out.append(x)
                x = layer.activation(x)
            count = tf.cast(tf.shape(images)[0], "float32")
            value = count * loss(targets, x)
        squares, sums = 0.0, []
        for x, delta in zip(
            came_in, tape.gradient(value, came_out), strict=True
        ):
            # One more for the bias.
            inputs = tf.reduce_sum(x**2, axis=-1) + 1
            squares += tf.reduce_sum(inputs * tf.reduce_sum(delta**2, axis=-1))
            sums += [
                tf.matmul(x, delta, transpose_a=True),
                tf.reduce_sum(delta, axis=0),
            ]
        return squares, sums

    count = len(images)
    squares, sums = 0.0, 0.0
    for start in range(0, count, batch_size):
        here = slice(start, start + batch_size)
        more, gradients = compute(
            tf.constant(images[here]), tf.constant(targets[here])
        )
        squares += float(more)
        sums += np.concatenate(
            [np.float64(each).reshape(-1) for each in gradients]
        )
    square_mean = np.sum((sums / count) ** 2)
    trace = (squares / count - square_mean) * count / (count - 1)
    square_mean -= trace / count
    return {
        "ratio": float(trace / square_mean),
        "length": float(np.sqrt(square_mean)),
    }


def _measure_seed(study, seed):
    """Returns what was measured, by the stage and the kind of targets."""
    images = data.scale(study.train.images)
    shifts = study.plan_teacher(seed).load_soft_targets(study.root)
    targets = {HARD: study.train.labels, SOFT: shifts[data.NO_SHIFT]}
    losses = {
        HARD: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        SOFT: runs.make_soft_loss(runs.TEMPERATURE),
    }

    def measure_all(student):
        return {
            kind: measure_variance(student, images, targets[name], losses[name])
            for name, kind in _KINDS.items()
        }

    measured = {_BEFORE: measure_all(runs.build(study.plan_labels(seed)))}
    seen = np.resize(np.arange(len(images)), _BATCH_SIZE * _STEPS)
    for name, kind in _KINDS.items():
        student = runs.build(study.plan_labels(seed))
        student.compile(
            keras.optimizers.SGD(
                _STEPS_LEARNING_RATE, momentum=0.9, nesterov=True
            ),
            losses[name],
        )
        student.fit(
            images[seen],
            targets[name][seen],
            batch_size=_BATCH_SIZE,
            verbose=0,
        )
        stage = f"after {_STEPS} steps with {kind}"
        measured[stage] = measure_all(student)
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

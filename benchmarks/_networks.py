"""What several benchmarks train: networks, random data, compiled models.

The networks are those of Hinton, Vinyals and Dean (2015), the data has the
shape of MNIST.
"""

import typing

import keras
import numpy as np

import keras_distill

PIXELS = 784
CLASSES = 10
TEMPERATURE = 4.0
ALPHA = 0.9


class Data(typing.NamedTuple):
    x: np.ndarray
    y: np.ndarray


def make_data(examples, seed, shape=(PIXELS,), classes=CLASSES):
    """Returns random images and labels, in the shape of MNIST by default."""
    generator = np.random.default_rng(seed)
    return Data(
        generator.random((examples, *shape), dtype="float32"),
        generator.integers(classes, size=examples),
    )


def load_mnist(examples):
    """Returns the first of MNIST's training images, in [0, 1]."""
    # Imported late: it takes memory, which most benchmarks measure without.
    import tensorflow_datasets as tfds

    loaded = tfds.load("mnist", split=f"train[:{examples}]", batch_size=-1)
    images = loaded["image"].numpy().reshape(-1, PIXELS)
    return Data(images.astype("float32") / 255, loaded["label"].numpy())


def make_network(units, name=None):
    """Returns a network of the paper: two hidden layers of ReLU units."""
    return keras.Sequential(
        [
            keras.Input((PIXELS,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(CLASSES),
        ],
        name=name,
    )


def compile_student(student, optimizer="adam"):
    """Returns the student, compiled to learn from labels alone."""
    student.compile(optimizer=optimizer, loss=_hard_loss())
    return student


def make_distiller(student, teacher=None, optimizer="adam", **options):
    """Returns a compiled `keras_distill.Distiller`.

    Args:
        student: `keras.Model`.
        teacher: As in `keras_distill.Distiller`.
        optimizer: As in `compile`.
        **options: More arguments of `compile`.
    """
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer=optimizer,
        loss=_hard_loss(),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
            temperature=TEMPERATURE
        ),
        alpha=ALPHA,
        **options,
    )
    return distiller


def make_peer(student, teacher, optimizer="adam"):
    """Returns a `keras.distillation.Distiller`, compiled to learn the same.

    Args:
        student: `keras.Model`.
        teacher: `keras.Model`.
        optimizer: As in `compile`.
    """
    peer = keras.distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=keras.distillation.LogitsDistillation(
            # Its default, a string, is not the KL divergence of softmaxes.
            loss=keras.losses.KLDivergence(),
            temperature=TEMPERATURE,
        ),
        student_loss_weight=1.0 - ALPHA,
    )
    peer.compile(optimizer=optimizer, loss=_hard_loss())
    return peer


def make_fit(model, *data, **options):
    """Prepares a training.

    Args:
        model: Compiled `keras.Model`.
        *data: First arguments of `fit`.
        **options: More arguments of `fit`.

    Returns:
        Function without arguments that runs `fit` and returns the number of
        its steps.
    """

    def run():
        before = int(model.optimizer.iterations)
        model.fit(*data, verbose=0, **options)
        return int(model.optimizer.iterations) - before

    return run


def _hard_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

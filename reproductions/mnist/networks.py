"""The paper's networks."""

import keras

from reproductions.mnist.data import CLASSES
from reproductions.mnist.data import IMAGE_SHAPE

TEACHER_WIDTH = 1200
STUDENT_WIDTH = 800


def build_teacher(input_dropout, dropout, max_norm):
    """Returns the large network that ends in logits.

    Args:
        input_dropout: Share of the pixels that is dropped.
        dropout: Share of the hidden units that is dropped.
        max_norm: Largest norm of the weights into a hidden unit, or `None`.
    """
    return _build(
        TEACHER_WIDTH,
        input_dropout=input_dropout,
        dropout=dropout,
        kernel_constraint=max_norm and keras.constraints.MaxNorm(max_norm),
        name="teacher",
    )


def build_student(width=STUDENT_WIDTH):
    """Returns a smaller network, not regularized, that ends in logits."""
    return _build(width, name="student")


def _build(width, *, name, input_dropout=0, dropout=0, kernel_constraint=None):
    layers = [keras.Input(IMAGE_SHAPE), keras.layers.Flatten()]
    if input_dropout:
        layers.append(keras.layers.Dropout(input_dropout))
    for _ in range(2):
        layers.append(
            keras.layers.Dense(
                width,
                activation="relu",
                kernel_constraint=kernel_constraint,
            )
        )
        if dropout:
            layers.append(keras.layers.Dropout(dropout))
    layers.append(keras.layers.Dense(CLASSES))
    return keras.Sequential(layers, name=name)

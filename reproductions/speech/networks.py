"""The acoustic model."""

import keras

from reproductions.speech.alignment import STATES
from reproductions.speech.corpus import FRAMES_AFTER
from reproductions.speech.corpus import FRAMES_BEFORE
from reproductions.speech.features import BANDS

_LAYERS = 3


def build_acoustic_model(width):
    """Returns a network from the frames around one to logits of its state.

    Args:
        width: Rectified linear units in each of three hidden layers.
    """
    frames = FRAMES_BEFORE + 1 + FRAMES_AFTER
    return keras.Sequential(
        [
            keras.Input((frames, BANDS)),
            keras.layers.Flatten(),
            *(
                keras.layers.Dense(width, activation="relu")
                for _ in range(_LAYERS)
            ),
            keras.layers.Dense(STATES),
        ]
    )

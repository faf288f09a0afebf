"""Spoken digits, split by the number that each recording has."""

import typing

import numpy as np
import tensorflow_datasets as tfds

SAMPLE_RATE = 8000
WORDS = 10
SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")

# Each speaker has said each digit 50 times. Numbers below the first are for
# the test, those below the second for choices, the others for training.
_TEST_BELOW = 5
_DEVELOPMENT_BELOW = 10


class Recording(typing.NamedTuple):
    """One spoken digit.

    Args:
        audio: Float array of samples in [-1, 1], 8,000 a second.
        word: The digit.
        speaker: Name of the speaker.
        number: From 0 to 49.
    """

    audio: np.ndarray
    word: int
    speaker: str
    number: int


def load():
    """Returns all `Recording`s, in the order of their names."""
    examples = tfds.as_numpy(tfds.load("spoken_digit", split="train"))
    recordings = []
    for example in examples:
        name = example["audio/filename"].decode().removesuffix(".wav")
        _, speaker, number = name.split("_")
        recordings.append(
            Recording(
                np.float32(example["audio"]) / 2**15,
                int(example["label"]),
                speaker,
                int(number),
            )
        )
    return sorted(recordings, key=lambda each: (*each[1:],))


def split(recordings, held_out=None):
    """Splits recordings, so that no one is in two parts.

    Args:
        recordings: List of `Recording`s.
        held_out: Name of a speaker who is for the test alone. Defaults to
            `None`: all speakers are in all parts.

    Returns:
        Dict of the positions in the list that are in `"train"`,
        `"development"` and `"test"`.
    """
    parts = {"train": [], "development": [], "test": []}
    for position, each in enumerate(recordings):
        if held_out is not None:
            part = "test" if each.speaker == held_out else None
        else:
            part = "test" if each.number < _TEST_BELOW else None
        if part is None and (held_out is None or each.number >= _TEST_BELOW):
            below = each.number < _DEVELOPMENT_BELOW
            part = "development" if below else "train"
        if part is not None:
            parts[part].append(position)
    return parts

"""Spoken digits, split by the number that each recording has."""

import functools
import typing

import numpy as np
import tensorflow_datasets as tfds

SAMPLE_RATE = 8000
WORDS = 10
SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")

# Each speaker has said each digit 50 times. Numbers below the first are for
# the test, those below the second for choices, the others for training.
TEST_BELOW = 5
DEVELOPMENT_BELOW = 10


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


# A process that prepares many strings reads the recordings once.
@functools.cache
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
    return sorted(recordings, key=lambda each: each[1:])


def split(recordings, held_out=None):
    """Splits recordings, so that no one is in two parts.

    Args:
        recordings: List of `Recording`s.
        held_out: Name of a speaker who is for the test alone, but for the
            recordings that choices were made with, which are in no part.
            Defaults to `None`: all speakers are in all parts.

    Returns:
        Dict of the positions in the list that are in `"train"`,
        `"development"` and `"test"`, and of those that the `"noise"` of the
        test is made of: the same ones, or those of the speakers who are not
        held out.
    """
    numbers = {"train": [], "development": [], "test": []}
    for position, each in enumerate(recordings):
        numbers[_find_part(each.number)].append(position)
    if held_out is None:
        return {**numbers, "noise": numbers["test"]}

    def keep(positions, own):
        return [
            each
            for each in positions
            if (recordings[each].speaker == held_out) == own
        ]

    return {
        "train": keep(numbers["train"], own=False),
        "development": keep(numbers["development"], own=False),
        "test": keep(sorted(numbers["train"] + numbers["test"]), own=True),
        "noise": keep(numbers["test"], own=False),
    }


def _find_part(number):
    if number < TEST_BELOW:
        return "test"
    return "development" if number < DEVELOPMENT_BELOW else "train"

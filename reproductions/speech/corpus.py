"""Strings of noisy digits of one speaker, with a label for each frame."""

import typing

import numpy as np
import tensorflow as tf

from reproductions.speech import features
from reproductions.speech.alignment import SILENCE

WORDS_IN_STRING = 5
# What a network sees around a frame.
FRAMES_BEFORE = 13
FRAMES_AFTER = 7

# Half of the gaps are none, the others so many frames.
_GAP = (3, 15)
_SIGNAL_TO_NOISE = (-3.0, 12.0)
_BABBLE_VOICES = 6
_NO_RECORDING = -1


class Strings(typing.NamedTuple):
    """Strings of words, one after the other.

    Args:
        features: Float array of shape `(frames, 24)`, normalized by string.
        labels: Integer array of shape `(frames,)`: states.
        recordings: Integer array of shape `(frames,)`: positions of the
            recordings, -1 between them.
        starts: Integer array: the first frame of each string, and the number
            of frames.
        words: List of the digits of each string.
        spoken: List of the positions of the recordings of each string.
    """

    features: np.ndarray
    labels: np.ndarray
    recordings: np.ndarray
    starts: np.ndarray
    words: list[list[int]]
    spoken: list[list[int]]


def make_strings(recordings, states, positions, noise, seed):
    """Strings words together and adds noise.

    Every recording is used once. The same seed gives the same strings, with the
    same noise.

    Args:
        recordings: List of all `Recording`s.
        states: List of the states of the frames of each.
        positions: Which recordings to use.
        noise: Which ones to make babble of, always of other speakers.
        seed: Integer, or a sequence of them.

    Returns:
        `Strings`.
    """
    random = np.random.default_rng(seed)
    strings = []
    for speaker in sorted({recordings[each].speaker for each in positions}):
        own = [p for p in positions if recordings[p].speaker == speaker]
        others = [p for p in noise if recordings[p].speaker != speaker]
        # Of about five words each, if their number can not be divided by five.
        count = max(1, round(len(own) / WORDS_IN_STRING))
        strings += [
            _make_string(recordings, states, spoken.tolist(), others, random)
            for spoken in np.array_split(random.permutation(own), count)
        ]
    order = random.permutation(len(strings))
    strings = [strings[each] for each in order]
    lengths = [len(labels) for _, labels, _, _ in strings]
    return Strings(
        np.concatenate([each for each, _, _, _ in strings]),
        np.concatenate([each for _, each, _, _ in strings]),
        np.concatenate([each for _, _, each, _ in strings]),
        np.cumsum([0, *lengths]),
        [[recordings[p].word for p in spoken] for _, _, _, spoken in strings],
        [spoken for _, _, _, spoken in strings],
    )


def join(copies):
    """Returns several `Strings` as one."""
    offsets = np.cumsum([0, *(len(each.labels) for each in copies)])
    return Strings(
        np.concatenate([each.features for each in copies]),
        np.concatenate([each.labels for each in copies]),
        np.concatenate([each.recordings for each in copies]),
        np.concatenate(
            [
                *(
                    each.starts[:-1] + offset
                    for each, offset in zip(copies, offsets, strict=False)
                ),
                offsets[-1:],
            ]
        ),
        [words for each in copies for words in each.words],
        [spoken for each in copies for spoken in each.spoken],
    )


def make_windows(strings):
    """Returns a function from frames to what a network sees of them.

    The first and the last frame of a string stand in for those beyond.

    Args:
        strings: `Strings`.

    Returns:
        Function from an integer tensor of shape `(batch,)` to a float tensor
        of shape `(batch, 21, 24)`.
    """
    lengths = np.diff(strings.starts)
    first = tf.constant(np.repeat(strings.starts[:-1], lengths), tf.int32)
    last = tf.constant(np.repeat(strings.starts[1:] - 1, lengths), tf.int32)
    around = tf.range(-FRAMES_BEFORE, FRAMES_AFTER + 1)
    frames = tf.constant(strings.features)

    def look_up(which):
        window = which[:, None] + around
        low = tf.gather(first, which)[:, None]
        high = tf.gather(last, which)[:, None]
        return tf.gather(frames, tf.clip_by_value(window, low, high))

    return look_up


def _make_string(recordings, states, spoken, others, random):
    """Returns features, labels, recordings and positions of one string."""
    audio, labels, where = [], [], []

    def add_gap():
        count = (
            0
            if random.random() < 0.5
            else random.integers(*_GAP, endpoint=True)
        )
        audio.append(np.zeros(count * features.STRIDE, "float32"))
        labels.append(np.full(count, SILENCE))
        where.append(np.full(count, _NO_RECORDING))

    for position in spoken:
        add_gap()
        # Words begin on the grid of frames.
        count = len(states[position])
        samples = np.zeros(count * features.STRIDE, "float32")
        own = recordings[position].audio[: len(samples)]
        samples[: len(own)] = own
        audio.append(samples)
        labels.append(states[position])
        where.append(np.full(count, position))
    add_gap()
    audio = np.concatenate(audio)
    noisy = _add_noise(audio, recordings, others, random)
    return (
        features.normalize(features.compute_log_mels(noisy)),
        np.concatenate(labels),
        np.concatenate(where),
        spoken,
    )


def _add_noise(audio, recordings, others, random):
    """Returns audio with babble and white noise, from -3 to 12 dB."""
    babble = np.zeros_like(audio)
    for _ in range(_BABBLE_VOICES):
        voice = np.concatenate(
            [
                recordings[each].audio
                for each in random.choice(others, 2 * WORDS_IN_STRING)
            ]
        )
        voice = np.resize(voice, len(audio) + len(voice))
        start = random.integers(len(voice) - len(audio))
        babble += _scale(voice[start : start + len(audio)])
    white = random.standard_normal(len(audio)).astype("float32")
    share = random.random()
    noise = _scale(
        np.sqrt(share) * _scale(babble) + np.sqrt(1 - share) * _scale(white)
    )
    decibels = random.uniform(*_SIGNAL_TO_NOISE)
    return _scale(audio) + 10 ** (-decibels / 20) * noise


def _scale(audio):
    """Returns audio with a mean square of 1."""
    return audio / np.sqrt(np.mean(audio**2) + 1e-12)

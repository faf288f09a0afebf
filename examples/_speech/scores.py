"""Frame accuracy and word error rate, with intervals by recording."""

import itertools

import jiwer
import numpy as np

from _speech.alignment import SILENCE

_RESAMPLES = 2000
_LEVEL = 0.95


def count_word_errors(references, hypotheses):
    """Counts the word errors that belong to each recording.

    Of the least number of substitutions, deletions and insertions that turn
    one string into the other (by `jiwer`). An insertion belongs to the word
    before it, or to the first one.

    Args:
        references: List of the digits of each string.
        hypotheses: List of what was recognized.

    Returns:
        Array with the errors in each word.
    """
    output = jiwer.process_words(
        [" ".join(map(str, each)) for each in references],
        [" ".join(map(str, each)) for each in hypotheses],
    )
    errors = [np.zeros(len(each), int) for each in references]
    for own, chunks in zip(errors, output.alignments, strict=True):
        for chunk in chunks:
            if chunk.type in ("substitute", "delete"):
                own[chunk.ref_start_idx : chunk.ref_end_idx] += 1
            elif chunk.type == "insert":
                count = chunk.hyp_end_idx - chunk.hyp_start_idx
                own[max(0, chunk.ref_start_idx - 1)] += count
    return np.concatenate(errors)


def bootstrap(values, recordings, statistic=lambda rate: rate, seed=0):
    """Returns the 95 % interval of a rate, by resampling recordings.

    Words of one recording, in other strings and noise, and the frames of one,
    are not independent of each other: whole recordings are drawn.

    Args:
        values: Array of numbers, of which the mean is the rate. Or several, of
            shape `(rates, numbers)`.
        recordings: Array of the recording that each number belongs to.
        statistic: Function of the rates to what the interval is of. Defaults
            to the only one.
        seed: Integer.

    Returns:
        Tuple of the two ends.
    """
    names, which = np.unique(recordings, return_inverse=True)
    counts = np.bincount(which)
    random = np.random.default_rng(seed)
    drawn = random.integers(len(names), size=(_RESAMPLES, len(names)))
    counts = counts[drawn].sum(axis=-1)
    rates = [
        np.bincount(which, weights=each)[drawn].sum(axis=-1) / counts
        for each in np.atleast_2d(values)
    ]
    tail = (1 - _LEVEL) / 2
    ends = np.quantile(statistic(*rates), [tail, 1 - tail])
    return tuple(float(each) for each in ends)


def describe(judged, strings):
    """Describes what a system reaches on the test strings.

    Args:
        judged: List of the `Judged`s of its networks.
        strings: The test `Strings`.

    Returns:
        Dict with a list by networks of each of: `train`, `development` and
        `frames`, the shares of frames that are right, the last one of the test
        strings; `speech`, that of the frames that are not silence; and
        `word_error_rate`. With the intervals of the means of `frames` and
        `word_error_rate`, the `decoders`, which are scale and penalty, and how
        many of them are `on_the_edge` of those that were tried.
    """
    spoken = strings.labels != SILENCE
    return {
        "train": [float(each.train) for each in judged],
        "development": [float(each.development) for each in judged],
        "frames": [float(np.mean(each.right)) for each in judged],
        "frames_interval": bootstrap(
            _average(judged, "right"), _find_recordings(strings)
        ),
        "speech": [float(np.mean(each.right[spoken])) for each in judged],
        "word_error_rate": [float(np.mean(each.errors)) for each in judged],
        "word_error_rate_interval": bootstrap(
            _average(judged, "errors"), _find_words(strings)
        ),
        "decoders": [[each.scale, each.penalty] for each in judged],
        "on_the_edge": sum(each.on_the_edge for each in judged),
    }


def compare(judged, others, strings):
    """Compares two systems on the same test strings.

    Args:
        judged: List of the `Judged`s of a system's networks.
        others: Those of the other system.
        strings: The test `Strings`.

    Returns:
        Dict of the differences of the mean shares of `frames` that are right
        and of the mean `word_error_rate`s, both with their interval. Its
        recordings are drawn for both systems at once.
    """
    frames, words = (
        _average(judged, name) - _average(others, name)
        for name in ("right", "errors")
    )
    return {
        "frames": float(np.mean(frames)),
        "frames_interval": bootstrap(frames, _find_recordings(strings)),
        "word_error_rate": float(np.mean(words)),
        "word_error_rate_interval": bootstrap(words, _find_words(strings)),
    }


def measure_share(low, judged, high, strings):
    """Returns how far a system is on the way from one to another.

    Args:
        low: List of the `Judged`s of the lower system's networks.
        judged: Those of the one between.
        high: Those of the higher one.
        strings: The test `Strings`.

    Returns:
        Dict with the `share` of the difference of the mean shares of right
        frames, and its `interval`. Its recordings are drawn for all three at
        once.
    """

    def divide(low, between, high):
        return (between - low) / (high - low)

    right = [_average(each, "right") for each in (low, judged, high)]
    return {
        "share": float(divide(*map(np.mean, right))),
        "interval": bootstrap(right, _find_recordings(strings), divide),
    }


def _average(judged, name):
    """Returns the mean over networks for each frame or word."""
    return np.mean([getattr(each, name) for each in judged], axis=0)


def _find_words(strings):
    """Returns the recording of each word."""
    return np.concatenate(strings.spoken)


def _find_recordings(strings):
    """Returns the recording of each frame.

    Frames between the words go with the first recording of the string.
    """
    found = strings.recordings.copy()
    for (start, end), spoken in zip(
        itertools.pairwise(strings.starts), strings.spoken, strict=True
    ):
        part = found[start:end]
        part[part < 0] = spoken[0]
    return found

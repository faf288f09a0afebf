"""Frame accuracy and word error rate, with intervals by recording."""

import itertools

import jiwer
import numpy as np

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


def bootstrap(wrong, recordings, seed=0):
    """Returns the 95 % interval of a rate, by resampling recordings.

    Words of one recording, in other strings and noise, and the frames of one,
    are not independent of each other: whole recordings are drawn.

    Args:
        wrong: Array of numbers, of which the mean is the rate.
        recordings: Array of the recording that each belongs to.
        seed: Integer.

    Returns:
        Tuple of the two ends.
    """
    names, which = np.unique(recordings, return_inverse=True)
    sums = np.bincount(which, weights=wrong)
    counts = np.bincount(which)
    random = np.random.default_rng(seed)
    drawn = random.integers(len(names), size=(_RESAMPLES, len(names)))
    rates = sums[drawn].sum(axis=-1) / counts[drawn].sum(axis=-1)
    tail = (1 - _LEVEL) / 2
    return tuple(float(q) for q in np.quantile(rates, [tail, 1 - tail]))


def describe(seeds, strings):
    """Describes what a system reaches on the test strings.

    Args:
        seeds: List with a list of `Judged`s for each seed. Those of one seed
            are averaged.
        strings: The test `Strings`.

    Returns:
        Dict with lists by seed: `train`, `development` and `frames`, the shares
        of frames that are right, the last one of the test strings, and
        `word_error_rate`. With the intervals of the means of the last two, the
        `decoders`, which are scale and penalty, and whether one of them is
        `on_the_edge` of those that were tried.
    """
    right, errors = _average(seeds)
    return {
        "train": [_mean(each.train for each in seed) for seed in seeds],
        "development": [
            _mean(each.development for each in seed) for seed in seeds
        ],
        "frames": [
            _mean(np.mean(each.right) for each in seed) for seed in seeds
        ],
        "frames_interval": bootstrap(right, _find_recordings(strings)),
        "word_error_rate": [
            _mean(np.mean(each.errors) for each in seed) for seed in seeds
        ],
        "word_error_rate_interval": bootstrap(errors, _find_words(strings)),
        "decoders": [
            [[each.scale, each.penalty] for each in seed] for seed in seeds
        ],
        "on_the_edge": any(each.on_the_edge for seed in seeds for each in seed),
    }


def compare(seeds, others, strings):
    """Compares two systems on the same test strings.

    Args:
        seeds: List with a list of `Judged`s for each seed.
        others: Those of the other system.
        strings: The test `Strings`.

    Returns:
        Dict of the differences of the mean shares of `frames` that are right
        and of the mean `word_error_rate`s, both with their interval. Its
        recordings are drawn for both systems at once.
    """
    (right, errors), (right_there, errors_there) = map(
        _average, (seeds, others)
    )
    frames, words = right - right_there, errors - errors_there
    return {
        "frames": _mean(frames),
        "frames_interval": bootstrap(frames, _find_recordings(strings)),
        "word_error_rate": _mean(words),
        "word_error_rate_interval": bootstrap(words, _find_words(strings)),
    }


def _mean(values):
    return float(np.mean(list(values)))


def _average(seeds):
    """Returns the means over all seeds by frame and by word."""
    return tuple(
        np.mean(
            [
                np.mean([getattr(each, name) for each in seed], axis=0)
                for seed in seeds
            ],
            axis=0,
        )
        for name in ("right", "errors")
    )


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

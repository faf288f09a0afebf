"""Frame accuracy and word error rate, with their intervals."""

import itertools
import typing

import jiwer
import numpy as np

from reproductions.speech.alignment import SILENCE

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


class Units(typing.NamedTuple):
    """What frames or words come from.

    Args:
        recordings: Integer array: the recording of each.
        strings: Integer array: the string of each.
    """

    recordings: np.ndarray
    strings: np.ndarray


def bootstrap(values, units, statistic=lambda rate: rate, seed=0):
    """Returns the 95 % interval of a rate: recordings and strings are drawn.

    What comes from one recording is not independent, nor is what is in one
    string, which has its noise. Both are drawn, and each number counts as often
    as its recording is drawn, times as often as its string is. (Owen, "The
    pigeonhole bootstrap", 2007.)

    Args:
        values: Array of numbers, of which the mean is the rate. Or several, of
            shape `(rates, numbers)`.
        units: `Units` of the numbers.
        statistic: Function of the rates to what the interval is of. Defaults
            to the only one.
        seed: Integer.

    Returns:
        Tuple of the two ends.
    """
    random = np.random.default_rng(seed)
    places, weights = [], []
    for each in units:
        names, which = np.unique(each, return_inverse=True)
        places.append(which)
        count = len(names)
        weights.append(
            random.multinomial(count, np.full(count, 1 / count), _RESAMPLES)
        )
    shape = [each.shape[1] for each in weights]
    flat = np.ravel_multi_index(places, shape)

    def add_up(numbers):
        """Returns their sum in each resample."""
        sums = np.bincount(flat, numbers, np.prod(shape)).reshape(shape)
        by_recording, by_string = weights
        return np.sum((by_recording @ sums) * by_string, axis=-1)

    values = np.atleast_2d(values)
    counts = add_up(np.ones(values.shape[-1]))
    tail = (1 - _LEVEL) / 2
    rates = [add_up(each) / counts for each in values]
    ends = np.quantile(statistic(*rates), [tail, 1 - tail])
    return tuple(float(each) for each in ends)


def describe(judged, strings, scales):
    """Describes what a system reaches on the test strings.

    Args:
        judged: List of the `Judged`s of its networks.
        strings: The test `Strings`.
        scales: The scales of the decoder that were tried.

    Returns:
        Dict with a list by networks of each of: `train`, `development` and
        `frames`, the shares of frames that are right, the last one of the test
        strings; `speech`, that of the frames that are not silence; and
        `word_error_rate`. With the intervals of the means of `frames` and
        `word_error_rate`, the `decoders`, which are scale and penalty, how many
        of them are `on_the_edge` of those that were tried, and what was
        `tried`: a dict from scales to the mean of the networks' word error
        rates on the development strings, with the best penalty for each.
    """
    spoken = strings.labels != SILENCE
    return {
        "train": [float(each.train) for each in judged],
        "development": [float(each.development) for each in judged],
        "frames": [float(np.mean(each.right)) for each in judged],
        "frames_interval": bootstrap(
            _average(judged, "right"), _find_units_of_frames(strings)
        ),
        "speech": [float(np.mean(each.right[spoken])) for each in judged],
        "word_error_rate": [float(np.mean(each.errors)) for each in judged],
        "word_error_rate_interval": bootstrap(
            _average(judged, "errors"), _find_units_of_words(strings)
        ),
        "decoders": [[each.scale, each.penalty] for each in judged],
        "on_the_edge": sum(each.on_the_edge for each in judged),
        "tried": dict(
            zip(
                scales,
                np.mean([each.tried.min(axis=1) for each in judged], axis=0),
                strict=True,
            )
        ),
    }


def compare(judged, others, strings, seeds):
    """Compares two systems on the same test strings.

    Args:
        judged: List of the `Judged`s of a system's networks, as many of each
            seed, one seed after the other.
        others: Those of the other system.
        strings: The test `Strings`.
        seeds: Number of seeds.

    Returns:
        Dict of the differences of the mean shares of `frames` that are right
        and of the mean `word_error_rate`s, each with its interval, for which
        the same is drawn for both systems, and by seeds.
    """
    found = {}
    for key, name, find_units in (
        ("frames", "right", _find_units_of_frames),
        ("word_error_rate", "errors", _find_units_of_words),
    ):

        def subtract(pair, name=name):
            ours, theirs = (_average(each, name) for each in pair)
            return ours - theirs

        difference = subtract((judged, others))
        found |= {
            key: float(np.mean(difference)),
            f"{key}_interval": bootstrap(difference, find_units(strings)),
            f"{key}_by_seed": [
                float(np.mean(subtract(each)))
                for each in _split_seeds((judged, others), seeds)
            ],
        }
    return found


def measure_share(low, judged, high, strings, seeds):
    """Returns how far a system is on the way from one to another.

    Args:
        low: List of the `Judged`s of the lower system's networks, as many of
            each seed, one seed after the other.
        judged: Those of the one between.
        high: Those of the higher one.
        strings: The test `Strings`.
        seeds: Number of seeds.

    Returns:
        Dict with the `share` of the difference of the mean shares of right
        frames, its `interval`, for which the same is drawn for all three, and
        the shares `by_seed`.
    """

    def divide(low, between, high):
        return (between - low) / (high - low)

    def measure(systems):
        right = [_average(each, "right") for each in systems]
        return right, float(divide(*map(np.mean, right)))

    systems = (low, judged, high)
    right, share = measure(systems)
    return {
        "share": share,
        "interval": bootstrap(right, _find_units_of_frames(strings), divide),
        "by_seed": [measure(each)[1] for each in _split_seeds(systems, seeds)],
    }


def _average(judged, name):
    """Returns the mean over networks for each frame or word."""
    return np.mean([getattr(each, name) for each in judged], axis=0)


def _split_seeds(systems, seeds):
    """Returns a list of the networks of all systems for each seed."""
    parts = [np.array_split(np.arange(len(each)), seeds) for each in systems]
    return [
        [
            [judged[place] for place in places]
            for judged, places in zip(systems, each, strict=True)
        ]
        for each in zip(*parts, strict=True)
    ]


def _find_units_of_words(strings):
    """Returns the `Units` of each word."""
    counts = [len(each) for each in strings.spoken]
    return Units(
        np.concatenate(strings.spoken),
        np.repeat(np.arange(len(counts)), counts),
    )


def _find_units_of_frames(strings):
    """Returns the `Units` of each frame.

    Frames between the words go with the first recording of the string.
    """
    found = strings.recordings.copy()
    for (start, end), spoken in zip(
        itertools.pairwise(strings.starts), strings.spoken, strict=True
    ):
        part = found[start:end]
        part[part < 0] = spoken[0]
    lengths = np.diff(strings.starts)
    return Units(found, np.repeat(np.arange(len(lengths)), lengths))

"""Frame accuracy and word error rate, with intervals by recording."""

import jiwer
import numpy as np

_RESAMPLES = 2000
_LEVEL = 0.95


def count_word_errors(references, hypotheses, spoken):
    """Counts the word errors that belong to each recording.

    Of the least number of substitutions, deletions and insertions that turn
    one string into the other (by `jiwer`). An insertion belongs to the word
    before it, or to the first one.

    Args:
        references: List of the digits of each string.
        hypotheses: List of what was recognized.
        spoken: List of the positions of the recordings of each string.

    Returns:
        Two arrays with an entry for each word: errors, and the position of the
        recording.
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
    return np.concatenate(errors), np.concatenate(spoken)


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

"""Which state of a hidden Markov model each frame of a word is in.

A word is eight states from left to right, with silence before and after it that
may be missing. Their densities are mixtures of Gaussians, trained with the best
paths (Viterbi training) from a flat start.
"""

import numpy as np
from sklearn.mixture import GaussianMixture

from reproductions.speech.recordings import WORDS

STATES_OF_WORD = 8
SILENCE = WORDS * STATES_OF_WORD
STATES = SILENCE + 1

# Rounds of training with so many components of the mixture.
ROUNDS = (1,) * 8 + (3,) * 3
# How far below the loudest frame silence is at the flat start, in decibels.
_QUIET = 40.0
_SMALLEST_VARIANCE = 0.1


def list_states(word):
    """Returns the states of a word from left to right, silence around it."""
    first = word * STATES_OF_WORD
    return [SILENCE, *range(first, first + STATES_OF_WORD), SILENCE]


def find_best_paths(scores, lengths):
    """Finds the best ways from left to right, each step by one state or none.

    They begin in the first or second state, which is silence or the word, and
    end in one of the last two.

    Args:
        scores: Array of shape `(recordings, frames, states)`: log likelihoods,
            padded at the end.
        lengths: Array of shape `(recordings,)`: frames that are no padding.

    Returns:
        List of an array of positions, from 0 to `states - 1`, for each.

    Raises:
        ValueError: If there are too few frames to get through.
    """
    recordings, frames, states = scores.shape
    if min(lengths) < states - 2:
        raise ValueError(
            f"Expected at least {states - 2} frames, one for each state of a "
            f"word. Received: {min(lengths)}"
        )
    total = np.full((recordings, states), -np.inf)
    total[:, :2] = scores[:, 0, :2]
    before = np.full_like(total, -np.inf)
    stepped = np.zeros((frames, recordings, states), bool)
    last = np.empty((frames, recordings), int)
    last[0] = states - 2 + total[:, -2:].argmax(axis=-1)
    for frame in range(1, frames):
        before[:, 1:] = total[:, :-1]
        np.greater(before, total, out=stepped[frame])
        total = np.maximum(before, total) + scores[:, frame]
        last[frame] = states - 2 + total[:, -2:].argmax(axis=-1)
    return [
        _trace_back(stepped[:length, each], last[length - 1, each])
        for each, length in enumerate(lengths)
    ]


def _trace_back(stepped, last):
    """Returns the path that ends in a position.

    Args:
        stepped: Array of shape `(frames, states)`: whether the best way to a
            position came from the one before it.
        last: The position.
    """
    path = np.empty(len(stepped), int)
    for frame in range(len(stepped) - 1, -1, -1):
        path[frame] = last
        last -= stepped[frame, last]
    return path


def start_flat(log_mels):
    """Returns a first guess of the path: equal parts between the silences.

    Args:
        log_mels: Array of shape `(frames, bands)`, in decibels.
    """
    loudness = log_mels.max(axis=-1)
    loud = np.flatnonzero(loudness > loudness.max() - _QUIET)
    first, last = loud[0], loud[-1] + 1
    if last - first < STATES_OF_WORD:
        first, last = 0, len(log_mels)
    path = np.full(len(log_mels), STATES_OF_WORD + 1)
    path[:first] = 0
    path[first:last] = 1 + (
        np.arange(last - first) * STATES_OF_WORD // (last - first)
    )
    return path


class Aligner:
    """Densities of all states, trained on words.

    Args:
        seed: Integer, of the start of the mixtures.
    """

    def __init__(self, seed=0):
        self._seed = seed
        self._densities = {}
        # In each round of training, the share of frames that got another
        # state.
        self.changed = []

    def fit(self, features, log_mels, words, notify=lambda share: None):
        """Trains the densities.

        Args:
            features: List of an array of shape `(frames, dimensions)` for each
                recording.
            log_mels: List of an array of shape `(frames, bands)`.
            words: List of the digit of each.
            notify: Function that is told the share that is done.
        """
        paths = [
            np.array(list_states(word))[start_flat(each)]
            for each, word in zip(log_mels, words, strict=True)
        ]
        for number, components in enumerate(ROUNDS):
            self._estimate(features, paths, components)
            former = paths
            paths = self.align(features, words)
            changed = np.concatenate(paths) != np.concatenate(former)
            self.changed.append(float(np.mean(changed)))
            notify((number + 1) / len(ROUNDS))

    def align(self, features, words):
        """Returns the states of the frames of words.

        Args:
            features: List of an array of shape `(frames, dimensions)` for each
                recording.
            words: List of the digit of each.

        Returns:
            List of an integer array of shape `(frames,)` for each.
        """
        found = [None] * len(words)
        for word in set(words):
            those = [each for each, own in enumerate(words) if own == word]
            states = np.array(list_states(word))
            lengths = np.array([len(features[each]) for each in those])
            inside = np.arange(lengths.max()) < lengths[:, None]
            scores = np.zeros((*inside.shape, len(states)))
            # All recordings at once: a call takes longer than a recording.
            frames = np.concatenate([features[each] for each in those])
            for position, state in enumerate(states):
                density = self._densities[state]
                scores[inside, position] = density.score_samples(frames)
            paths = find_best_paths(scores, lengths)
            for each, path in zip(those, paths, strict=True):
                found[each] = states[path]
        return found

    def _estimate(self, features, paths, components):
        """Fits the density of each state to the frames on its paths."""
        frames, states = np.concatenate(features), np.concatenate(paths)
        for state in np.unique(states):
            those = frames[states == state]
            if len(those) < 2:
                # As it was in the round before.
                continue
            count = components if len(those) >= 10 * components else 1
            self._densities[state] = GaussianMixture(
                count,
                covariance_type="diag",
                # A single component begins with all frames, in any way.
                init_params="kmeans" if count > 1 else "random",
                reg_covar=_SMALLEST_VARIANCE,
                random_state=self._seed,
            ).fit(those)

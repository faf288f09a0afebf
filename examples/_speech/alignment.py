"""Which state of a hidden Markov model each frame of a word is in.

A word is eight states from left to right, with silence before and after it that
may be missing. Their densities are mixtures of Gaussians, trained with the best
paths (Viterbi training) from a flat start.
"""

import numpy as np
from sklearn.mixture import GaussianMixture

from _speech.recordings import WORDS

STATES_OF_WORD = 8
SILENCE = WORDS * STATES_OF_WORD
STATES = SILENCE + 1

# Rounds of training with so many components of the mixture.
_ROUNDS = (1,) * 8 + (3,) * 3
# How far below the loudest frame silence is at the flat start, in decibels.
_QUIET = 40.0
_SMALLEST_VARIANCE = 0.1


def list_states(word):
    """Returns the states of a word from left to right, silence around it."""
    first = word * STATES_OF_WORD
    return [SILENCE, *range(first, first + STATES_OF_WORD), SILENCE]


def find_best_path(scores):
    """Finds the best way from left to right, each step by one state or none.

    It begins in the first or second state, which is silence or the word, and
    ends in one of the last two.

    Args:
        scores: Array of shape `(frames, states)`: log likelihoods.

    Returns:
        Array of shape `(frames,)` of positions, from 0 to `states - 1`.

    Raises:
        ValueError: If there are too few frames to get through.
    """
    frames, states = scores.shape
    if frames < states - 2:
        raise ValueError(
            f"Expected at least {states - 2} frames, one for each state of a "
            f"word. Received: {frames}"
        )
    total = np.full(states, -np.inf)
    total[:2] = scores[0, :2]
    stepped = np.zeros((frames, states), bool)
    for frame in range(1, frames):
        before = np.concatenate([[-np.inf], total[:-1]])
        stepped[frame] = before > total
        total = np.where(stepped[frame], before, total) + scores[frame]
    path = np.empty(frames, int)
    path[-1] = states - 2 + np.argmax(total[-2:])
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = path[frame] - stepped[frame, path[frame]]
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
        for number, components in enumerate(_ROUNDS):
            self._estimate(features, paths, components)
            former = paths
            paths = [
                self.align(each, word)
                for each, word in zip(features, words, strict=True)
            ]
            changed = np.concatenate(paths) != np.concatenate(former)
            self.changed.append(float(np.mean(changed)))
            notify((number + 1) / len(_ROUNDS))

    def align(self, features, word):
        """Returns the state of each frame of a word.

        Args:
            features: Array of shape `(frames, dimensions)`.
            word: The digit.
        """
        states = list_states(word)
        scores = np.stack(
            [
                self._densities[state].score_samples(features)
                for state in states
            ],
            axis=-1,
        )
        return np.array(states)[find_best_path(scores)]

    def _estimate(self, features, paths, components):
        """Fits the density of each state to the frames on its paths."""
        frames, states = np.concatenate(features), np.concatenate(paths)
        for state in np.unique(states):
            those = frames[states == state]
            if len(those) < 2:
                # As it was in the round before.
                continue
            self._densities[state] = GaussianMixture(
                components if len(those) >= 10 * components else 1,
                covariance_type="diag",
                reg_covar=_SMALLEST_VARIANCE,
                random_state=self._seed,
            ).fit(those)

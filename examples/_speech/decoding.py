"""From the probabilities of states to words."""

import numpy as np

from _speech.alignment import SILENCE
from _speech.alignment import STATES
from _speech.alignment import STATES_OF_WORD
from _speech.recordings import WORDS

_FIRST = np.arange(WORDS) * STATES_OF_WORD
_LAST = _FIRST + STATES_OF_WORD - 1


def decode(log_likelihoods, lengths, penalty):
    """Finds the best sequence of words: a loop over words, with silence.

    A word goes through its states from left to right, each for a frame or
    more. Before, between and after words there may be silence.

    Args:
        log_likelihoods: Array of shape `(strings, frames, 81)`: scaled log
            likelihoods of the states, padded at the end.
        lengths: Array of shape `(strings,)`: frames that are no padding.
        penalty: What each word costs.

    Returns:
        List of a list of digits for each string.
    """
    strings, frames, _ = log_likelihoods.shape
    rows = np.arange(strings)
    total = np.full((strings, STATES), -np.inf)
    total[:, _FIRST] = log_likelihoods[:, 0, _FIRST] - penalty
    total[:, SILENCE] = log_likelihoods[:, 0, SILENCE]
    # Where each state was entered from, itself included.
    origins = np.zeros((frames, strings, STATES), "int16")
    final = np.where(lengths[:, None] == 1, total, -np.inf)
    for frame in range(1, frames):
        origin = np.tile(np.arange(STATES), (strings, 1))
        best = total.copy()
        # A step to the right within a word.
        inner = np.setdiff1d(np.arange(SILENCE), _FIRST)
        better = total[:, inner - 1] > best[:, inner]
        best[:, inner] = np.where(better, total[:, inner - 1], best[:, inner])
        origin[:, inner] = np.where(better, inner - 1, origin[:, inner])
        # A new word, after another one or silence.
        ends = np.concatenate([_LAST, [SILENCE]])
        which = ends[np.argmax(total[:, ends], axis=-1)]
        entering = total[rows, which]
        better = (entering - penalty)[:, None] > best[:, _FIRST]
        best[:, _FIRST] = np.where(
            better, (entering - penalty)[:, None], best[:, _FIRST]
        )
        origin[:, _FIRST] = np.where(better, which[:, None], origin[:, _FIRST])
        # Silence, after a word.
        which = _LAST[np.argmax(total[:, _LAST], axis=-1)]
        entering = total[rows, which]
        better = entering > best[:, SILENCE]
        best[:, SILENCE] = np.where(better, entering, best[:, SILENCE])
        origin[:, SILENCE] = np.where(better, which, origin[:, SILENCE])
        total = best + log_likelihoods[:, frame]
        origins[frame] = origin
        final = np.where((lengths == frame + 1)[:, None], total, final)
    return [
        _trace(origins[:, row], final[row], length)
        for row, length in enumerate(lengths)
    ]


def _trace(origins, final, length):
    """Returns the words on the best path of one string."""
    ends = np.concatenate([_LAST, [SILENCE]])
    state = ends[np.argmax(final[ends])]
    words = []
    for frame in range(length - 1, -1, -1):
        origin = origins[frame, state] if frame else None
        # A word begins where its first state is entered from elsewhere.
        if state in _FIRST and origin != state:
            words.append(int(state) // STATES_OF_WORD)
        state = origin
    return words[::-1]

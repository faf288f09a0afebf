"""From the likelihoods of states to words."""

import numpy as np

from reproductions.speech.alignment import STATES_OF_WORD


def count_transitions(labels, starts, states):
    """Counts how long states last.

    Args:
        labels: Integer array of shape `(frames,)`: states.
        starts: Integer array: the first frame of each string, and the number
            of frames.
        states: Number of states.

    Returns:
        Two arrays of shape `(states,)`: the log probabilities to stay in a
        state and to leave it, none of them minus infinity.
    """
    within = np.ones(len(labels) - 1, bool)
    within[starts[1:-1] - 1] = False
    here = labels[:-1][within]
    left = here != labels[1:][within]
    leaves = np.bincount(here, weights=left, minlength=states)
    # One more of each.
    visits = np.bincount(here, minlength=states) + 2
    return np.log1p(-(leaves + 1) / visits), np.log((leaves + 1) / visits)


def decode(
    log_likelihoods,
    lengths,
    penalty,
    log_stay,
    log_leave,
    states_of_word=STATES_OF_WORD,
):
    """Finds the best sequence of words: a loop over words, with silence.

    A word goes through its states from left to right, each for a frame or
    more. Before, between and after words there may be silence.

    Args:
        log_likelihoods: Array of shape `(strings, frames, states)`: scaled log
            likelihoods of the states of one word after the other, and of
            silence, padded at the end.
        lengths: Array of shape `(strings,)`: frames that are no padding.
        penalty: What each word costs.
        log_stay: Array of shape `(states,)`: log probabilities to stay.
        log_leave: The same, to leave for what may come next.
        states_of_word: Number of states of a word.

    Returns:
        List of a list of words, from 0 on, for each string.
    """
    strings, frames, _ = log_likelihoods.shape
    spoken = log_likelihoods[..., :-1].reshape(
        strings, frames, -1, states_of_word
    )
    silent = log_likelihoods[..., -1]
    stay, leave = (
        each[:-1].reshape(-1, states_of_word) for each in (log_stay, log_leave)
    )
    # Of the best path to each state: its score, and whether its last step was
    # one to the right, or into the first state from the end of any word.
    inside = np.full(spoken[:, 0].shape, -np.inf)
    inside[..., 0] = spoken[:, 0, :, 0] - penalty
    silence = silent[:, 0]
    stepped = np.zeros((frames, *inside.shape), bool)
    fell_silent = np.zeros((frames, strings), bool)
    # Of the best path that leaves a word, and of the one that leaves silence.
    ends = np.empty((frames, *inside.shape[:-1]))
    silences = np.empty((frames, strings))
    ends[0] = inside[..., -1] + leave[:, -1]
    silences[0] = silence + log_leave[-1]
    before = np.empty_like(inside)
    for frame in range(1, frames):
        best_end = ends[frame - 1].max(axis=-1)
        from_any = np.maximum(best_end, silences[frame - 1])
        before[..., 0] = (from_any - penalty)[:, None]
        before[..., 1:] = inside[..., :-1] + leave[:, :-1]
        stayed = inside + stay
        np.greater(before, stayed, out=stepped[frame])
        inside = np.maximum(before, stayed) + spoken[:, frame]
        stayed = silence + log_stay[-1]
        fell_silent[frame] = best_end > stayed
        silence = np.maximum(best_end, stayed) + silent[:, frame]
        ends[frame] = inside[..., -1] + leave[:, -1]
        silences[frame] = silence + log_leave[-1]
    last_words = ends.argmax(axis=-1)
    in_silence = silences > ends.max(axis=-1)
    return [
        _trace(
            stepped[:length, row],
            fell_silent[:length, row],
            last_words[:length, row],
            in_silence[:length, row],
        )
        for row, length in enumerate(lengths)
    ]


def _trace(stepped, fell_silent, last_words, in_silence):
    """Returns the words on the best path of one string.

    Args:
        stepped: Array of shape `(frames, words, states_of_word)`: whether the
            best path to a state came from another one.
        fell_silent: Array of shape `(frames,)`: whether the best path to
            silence came from a word.
        last_words: Array of shape `(frames,)`: the word that is best to end.
        in_silence: Array of shape `(frames,)`: whether it is better to leave
            silence.
    """
    last_state = stepped.shape[-1] - 1
    words = []
    silent = in_silence[-1]
    word, state = last_words[-1], last_state
    for frame in range(len(stepped) - 1, -1, -1):
        if silent:
            if fell_silent[frame]:
                silent = False
                word, state = last_words[frame - 1], last_state
        elif state and stepped[frame, word, state]:
            state -= 1
        elif not state and (frame == 0 or stepped[frame, word, state]):
            words.append(int(word))
            silent = in_silence[frame - 1]
            word, state = last_words[frame - 1], last_state
    return words[::-1]

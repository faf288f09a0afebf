"""What is recognized by networks, with a decoder tuned on development data."""

import dataclasses
import typing

import numpy as np
from scipy.special import log_softmax

from _speech import scores
from _speech.alignment import STATES
from _speech.decoding import decode
from _speech.models import AcousticModel
from _speech.models import load_teacher
from _speech.models import predict
from _speech.preparation import Copies
from _training import Task

# Of the decoder, chosen on the development strings.
_SCALES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
_PENALTIES = (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0)


class Judged(typing.NamedTuple):
    """What was recognized.

    Args:
        train: Share of the frames of the training strings that are right.
        development: That of the development strings.
        right: Bool array of shape `(frames,)`: which frames of the test
            strings are right.
        errors: Integer array of shape `(words,)`: errors in each word of the
            test strings.
        scale: That of the decoder's log likelihoods.
        penalty: What a word costs in the decoder.
    """

    train: float
    development: float
    right: np.ndarray
    errors: np.ndarray
    scale: float
    penalty: float

    @property
    def on_the_edge(self):
        """Whether the best setting may lie outside those that were tried."""
        return self.scale in (_SCALES[0], _SCALES[-1]) or self.penalty in (
            _PENALTIES[0],
            _PENALTIES[-1],
        )


@dataclasses.dataclass(frozen=True)
class Judgement(Task):
    """What a network recognizes, or several as an ensemble.

    Args:
        models: Tuple of `AcousticModel`s, trained on the same copies.
        test: `Copies`.
    """

    models: tuple[AcousticModel, ...]
    test: Copies

    result = "judged.npz"

    @property
    def needs(self):
        return (*self.models, self.test)

    @property
    def work(self):
        return 1e12

    def compute(self, folder, root, notify):
        model = self.models[0]
        network = load_teacher(self.models, root)
        train, development, test = (
            each.load(root)
            for each in (model.copies, model.development, self.test)
        )
        priors = _count_priors(train.labels)
        logits = predict(network, development)
        scale, penalty = _tune(
            _score(logits, development, priors), development, notify
        )
        judged = predict(network, test)
        return Judged(
            train=np.mean(_find_right(predict(network, train), train)),
            development=np.mean(_find_right(logits, development)),
            right=_find_right(judged, test),
            errors=_count_errors(
                scale * _score(judged, test, priors), test, penalty
            ),
            scale=scale,
            penalty=penalty,
        )

    def save(self, computed, path):
        np.savez(path, **computed._asdict())

    def load(self, root):
        """Returns the `Judged`."""
        with np.load(self.find_result(root)) as kept:
            found = {name: kept[name] for name in Judged._fields}
        return Judged(
            **{
                name: each if each.ndim else float(each)
                for name, each in found.items()
            }
        )


def _count_priors(labels):
    """Returns the log frequencies of the states, none of them 0."""
    counts = np.bincount(labels, minlength=STATES)
    return np.log((counts + 1) / (len(labels) + STATES))


def _find_right(logits, strings):
    return logits.argmax(axis=-1) == strings.labels


def _score(logits, strings, priors):
    """Returns log likelihoods of shape `(strings, frames, 81)`, padded."""
    lengths = np.diff(strings.starts)
    inside = np.arange(lengths.max()) < lengths[:, None]
    padded = np.zeros((*inside.shape, STATES))
    # But for a constant of each frame, which all paths share.
    padded[inside] = log_softmax(np.float64(logits), axis=-1) - priors
    return padded


def _tune(log_likelihoods, strings, notify):
    """Returns the scale and the penalty with the fewest word errors."""
    errors = {}
    for number, scale in enumerate(_SCALES):
        scaled = scale * log_likelihoods
        for penalty in _PENALTIES:
            errors[scale, penalty] = np.sum(
                _count_errors(scaled, strings, penalty)
            )
        notify((number + 1) / len(_SCALES))
    return min(errors, key=errors.get)


def _count_errors(scaled, strings, penalty):
    """Returns the errors in each word."""
    recognized = decode(scaled, np.diff(strings.starts), penalty)
    return scores.count_word_errors(strings.words, recognized)

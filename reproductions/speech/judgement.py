"""What is recognized by networks, with a decoder tuned on development data."""

import dataclasses
import typing

import numpy as np
from scipy import ndimage
from scipy.special import log_softmax

from reproductions.common.tasks import Task
from reproductions.speech import decoding
from reproductions.speech import scores
from reproductions.speech.alignment import STATES
from reproductions.speech.models import AcousticModel
from reproductions.speech.models import load_teacher
from reproductions.speech.models import predict
from reproductions.speech.preparation import Copies


class Judged(typing.NamedTuple):
    """What was recognized.

    Args:
        train: Share of the frames of the training strings that are right.
        development: That of the development strings.
        right: Bool array of shape `(frames,)`: which frames of the test
            strings are right.
        errors: Integer array of shape `(words,)`: errors in each word of the
            test strings.
        tried: Array of shape `(scales, penalties)`: the word error rates on the
            development strings with each.
        scale: That of the decoder's log likelihoods.
        penalty: What a word costs in the decoder.
        on_the_edge: Whether a better scale or penalty may lie outside those
            that were tried.
    """

    train: float
    development: float
    right: np.ndarray
    errors: np.ndarray
    tried: np.ndarray
    scale: float
    penalty: float
    on_the_edge: bool


@dataclasses.dataclass(frozen=True)
class Judgement(Task):
    """What a network recognizes, or several as an ensemble.

    Args:
        models: Tuple of `AcousticModel`s.
        train: `Copies` of what they are trained on, which give the priors and
            the transitions of the states.
        development: `Copies` that the decoder is tuned on.
        test: `Copies`.
        scales: Tuple of the scales that are tried.
        penalties: Tuple of the penalties that are tried.
    """

    models: tuple[AcousticModel, ...]
    train: Copies
    development: Copies
    test: Copies
    scales: tuple[float, ...]
    penalties: tuple[float, ...]

    result = "judged.npz"

    @property
    def needs(self):
        return (*self.models, self.train, self.development, self.test)

    @property
    def work(self):
        strings = (self.train, self.development, self.test)
        return 2e11 + sum(
            model.count_work(each) for model in self.models for each in strings
        )

    def compute(self, folder, root, notify):
        network = load_teacher(self.models, root)
        train, development, test = (
            each.load(root)
            for each in (self.train, self.development, self.test)
        )
        decoder = _Decoder.estimate(train)
        logits = predict(network, development)
        tried = self._try_all(decoder, logits, development, notify)
        scale, penalty = self.choose(tried)
        test_logits = predict(network, test)
        return Judged(
            train=np.mean(_find_right(predict(network, train), train)),
            development=np.mean(_find_right(logits, development)),
            right=_find_right(test_logits, test),
            errors=decoder.count_errors(test_logits, test, scale, penalty),
            tried=tried,
            scale=scale,
            penalty=penalty,
            on_the_edge=scale in (self.scales[0], self.scales[-1])
            or penalty in (self.penalties[0], self.penalties[-1]),
        )

    def save(self, computed, path):
        np.savez(path, **computed._asdict())

    def load(self, root):
        """Returns the `Judged`."""
        with np.load(self.find_result(root)) as kept:
            return Judged(
                *(
                    kept[name] if kept[name].ndim else kept[name].item()
                    for name in Judged._fields
                )
            )

    def _try_all(self, decoder, logits, strings, notify):
        """Returns the word error rates with all scales and penalties."""
        tried = []
        for number, scale in enumerate(self.scales):
            tried.append(
                [
                    decoder.count_errors(logits, strings, scale, penalty).mean()
                    for penalty in self.penalties
                ]
            )
            notify((number + 1) / len(self.scales))
        return np.array(tried)

    def choose(self, tried):
        """Returns the scale and the penalty with the fewest word errors.

        Those next to them count, too, as many are about as good, and one of
        them is the best by chance.

        Args:
            tried: Array of shape `(scales, penalties)`: word error rates.
        """
        smooth = ndimage.uniform_filter(np.float64(tried), 3, mode="nearest")
        scale, penalty = np.unravel_index(smooth.argmin(), smooth.shape)
        return self.scales[scale], self.penalties[penalty]


class _Decoder(typing.NamedTuple):
    """What a decoder knows of the states.

    Args:
        log_priors: Array of shape `(states,)`.
        log_stay: Array of shape `(states,)`.
        log_leave: Array of shape `(states,)`.
    """

    log_priors: np.ndarray
    log_stay: np.ndarray
    log_leave: np.ndarray

    @classmethod
    def estimate(cls, strings):
        """Counts the states of strings, and how long they last."""
        counts = np.bincount(strings.labels, minlength=STATES) + 1
        return cls(
            np.log(counts / counts.sum()),
            *decoding.count_transitions(strings.labels, strings.starts, STATES),
        )

    def count_errors(self, logits, strings, scale, penalty):
        """Returns the errors in each word."""
        lengths = np.diff(strings.starts)
        inside = np.arange(lengths.max()) < lengths[:, None]
        padded = np.zeros((*inside.shape, STATES))
        # But for a constant of each frame, which all paths share.
        padded[inside] = scale * (
            log_softmax(np.float64(logits), axis=-1) - self.log_priors
        )
        recognized = decoding.decode(
            padded, lengths, penalty, self.log_stay, self.log_leave
        )
        return scores.count_word_errors(strings.words, recognized)


def _find_right(logits, strings):
    return logits.argmax(axis=-1) == strings.labels

"""What all experiments share: scale, data, and how a system is judged."""

import dataclasses
import functools
import pathlib

import numpy as np
from scipy.special import log_softmax

from _speech import scores
from _speech import tasks
from _speech.alignment import STATES
from _speech.decoding import decode
from _speech.tasks import AcousticModel
from _speech.tasks import Alignment
from _speech.tasks import Copies
from _speech.tasks import SoftTargets

# Of the decoder, chosen on the development strings.
_SCALES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
_PENALTIES = (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        seeds: Number of repetitions of every arm.
        members: Networks in an ensemble.
        copies: Copies of the training strings, each strung together anew.
        judged_copies: Copies of the development and of the test strings.
        epochs: Passes over all copies of a baseline.
        patience: How many times as long a student is trained.
        small_epochs: Passes over a share of the data.
        width: Units in a hidden layer.
        most: Recordings of a digit of a speaker, or `None`: all.
        temperatures: Those that are tried.
        hard_weights: Weights of the hard loss that are tried.
        fractions: Shares of the data.
    """

    seeds: int
    members: int
    copies: int
    judged_copies: int
    epochs: int
    patience: int
    small_epochs: int
    width: int = 256
    most: int | None = None
    temperatures: tuple[float, ...] = (1.0, 2.0, 5.0)
    hard_weights: tuple[float, ...] = (0.0, 0.1, 0.5)
    fractions: tuple[float, ...] = (0.03, 0.05, 0.1)


SCALES = {
    "paper": Scale(
        seeds=3,
        members=10,
        copies=8,
        judged_copies=4,
        epochs=4,
        patience=3,
        small_epochs=30,
    ),
    "small": Scale(
        seeds=1,
        members=4,
        copies=2,
        judged_copies=1,
        epochs=4,
        patience=2,
        small_epochs=10,
        width=128,
        temperatures=(2.0,),
        hard_weights=(0.0,),
    ),
    "tiny": Scale(
        seeds=1,
        members=3,
        copies=2,
        judged_copies=1,
        epochs=3,
        patience=2,
        small_epochs=6,
        width=64,
        most=14,
        temperatures=(2.0,),
        hard_weights=(0.0,),
        fractions=(0.25,),
    ),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """A scale, and who is held out.

    Args:
        scale: `Scale`.
        root: Folder of all tasks.
        held_out: Name of the speaker who is for the test alone, or `None`.
    """

    scale: Scale
    root: pathlib.Path
    held_out: str | None = None

    @property
    def alignment(self):
        """The `Alignment` that all labels are from."""
        return Alignment("alignment", 0, self.held_out, self.scale.most)

    def plan_copies(self, part, count=None, fraction=1.0, seed=0):
        """Returns `Copies` of a part of the recordings."""
        if count is None:
            count = self.scale.judged_copies
        return Copies(
            f"{part} strings", seed, self.alignment, part, count, fraction
        )

    def plan_train(self, fraction=1.0, seed=0):
        """Returns the `Copies` that every arm is trained on."""
        return self.plan_copies("train", self.scale.copies, fraction, seed)

    def plan_model(self, name, seed, copies, epochs, **settings):
        """Returns an `AcousticModel`."""
        return AcousticModel(
            name,
            seed,
            copies,
            self.plan_copies("development"),
            epochs,
            self.scale.width,
            **settings,
        )

    def plan_members(self, seed):
        """Returns the baselines that make an ensemble."""
        first = seed * self.scale.members
        return tuple(
            self.plan_model(
                "baseline", each, self.plan_train(), self.scale.epochs
            )
            for each in range(first, first + self.scale.members)
        )

    def plan_soft_targets(self, teachers, copies, temperature):
        """Returns the `SoftTargets` of teachers."""
        return SoftTargets(
            "soft targets", teachers[0].seed, teachers, copies, temperature
        )

    def load_strings(self, part):
        """Returns the `Strings` of the development or the test."""
        return _load(self.plan_copies(part), self.root)

    def predict(self, model, part, temperature=1.0):
        """Returns the logits of a network on the development or the test."""
        return tasks.predict(model, self.load_strings(part), temperature)

    def measure_frames(self, logits, part):
        """Returns the share of frames whose most likely state is right."""
        labels = self.load_strings(part).labels
        return float(np.mean(logits.argmax(axis=-1) == labels))

    def judge(self, model):
        """Returns what a network reaches on the test.

        Scale and penalty of the decoder are those that are best on the
        development strings.

        Returns:
            Dict of the accuracy of `frames`, the `word_error_rate`, both with
            their interval, and the settings of the decoder.
        """
        tuning = {}
        development = self.load_strings("development")
        logits = self.predict(model, "development")
        for scale in _SCALES:
            scaled = self._scale(logits, development, scale)
            for penalty in _PENALTIES:
                errors, _ = self._recognize(scaled, development, penalty)
                tuning[scale, penalty] = np.mean(errors)
        scale, penalty = min(tuning, key=tuning.get)
        test = self.load_strings("test")
        logits = self.predict(model, "test")
        errors, spoken = self._recognize(
            self._scale(logits, test, scale), test, penalty
        )
        right = logits.argmax(axis=-1) == test.labels
        return {
            "development_frames": self.measure_frames(
                self.predict(model, "development"), "development"
            ),
            "frames": float(np.mean(right)),
            # Frames between the words go with the string's first recording.
            "frames_interval": scores.bootstrap(right, _fill(test)),
            "word_error_rate": float(np.mean(errors)),
            "word_error_rate_interval": scores.bootstrap(errors, spoken),
            "scale": scale,
            "penalty": penalty,
            "on_the_edge": bool(
                scale in (_SCALES[0], _SCALES[-1])
                or penalty in (_PENALTIES[0], _PENALTIES[-1])
            ),
        }

    @property
    def _log_prior(self):
        """The log frequencies of the states in the training strings."""
        labels = _load(self.plan_train(), self.root).labels
        counts = np.bincount(labels, minlength=STATES)
        return np.log((counts + 1) / (len(labels) + STATES))

    def _scale(self, logits, strings, scale):
        """Returns scaled log likelihoods, `(strings, frames, 81)`."""
        likelihoods = scale * (
            log_softmax(np.float64(logits), axis=-1) - self._log_prior
        )
        lengths = np.diff(strings.starts)
        padded = np.zeros((len(lengths), lengths.max(), STATES))
        for row, (start, length) in enumerate(
            zip(strings.starts, lengths, strict=False)
        ):
            padded[row, :length] = likelihoods[start : start + length]
        return padded

    def _recognize(self, scaled, strings, penalty):
        """Returns the errors and the recording of each word."""
        words = decode(scaled, np.diff(strings.starts), penalty)
        return scores.count_word_errors(strings.words, words, strings.spoken)


@functools.lru_cache(maxsize=4)
def _load(copies, root):
    return copies.load(root)


def _fill(strings):
    """Returns the recording of each frame, also of those between words."""
    filled = strings.recordings.copy()
    for start, end, spoken in zip(
        strings.starts, strings.starts[1:], strings.spoken, strict=False
    ):
        part = filled[start:end]
        part[part < 0] = spoken[0]
    return filled

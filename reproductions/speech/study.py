"""What all experiments share: scale, data, and what they train and judge."""

import dataclasses
import pathlib

import numpy as np

from reproductions.speech import scores
from reproductions.speech.judgement import Judgement
from reproductions.speech.models import AcousticModel
from reproductions.speech.models import SoftTargets
from reproductions.speech.preparation import Alignment
from reproductions.speech.preparation import Copies

BASELINE = "baseline"

# Students and those that they are compared with have the same seeds, and none
# that a member of an ensemble has.
_FIRST_SEED = 1000

# The best penalty grows with the scale, so both go far.
_DECODER_SCALES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0)
_DECODER_PENALTIES = (-8, 0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is, and the recipe.

    Args:
        seeds: Number of repetitions of every arm.
        members: Networks in an ensemble.
        copies: Copies of the training strings, each strung together anew.
        development_copies: Copies of the development strings.
        test_copies: Copies of the test strings.
        test_seed: Seed of those. Every scale has its own, so that no one has
            seen the test of another.
        epochs: Passes over all copies of a baseline.
        student_epochs: Those of a student.
        control_epochs: Those of the networks that learn from labels and are
            compared with the student, whose number is among them. The best
            number is chosen.
        small_epochs: Passes over a share of the data, with soft targets.
        small_control_epochs: Those of the networks that learn from labels
            there. The best number is chosen.
        width: Units in a hidden layer.
        temperature: That of the soft targets of an ensemble.
        hard_weight: Weight of the labels beside them.
        small_temperature: The temperature where there is a share of the data.
        fractions: Shares of the data.
        most: Recordings of a digit of a speaker, or `None`: all.
        decoder_scales: The scales of log likelihoods that are tried.
        decoder_penalties: The penalties of a word that are tried.
    """

    seeds: int
    members: int
    copies: int
    development_copies: int
    test_copies: int
    test_seed: int
    epochs: int
    student_epochs: int
    control_epochs: tuple[int, ...]
    small_epochs: int
    small_control_epochs: tuple[int, ...]
    width: int = 384
    temperature: float = 2.0
    hard_weight: float = 0.1
    small_temperature: float = 2.0
    fractions: tuple[float, ...] = (0.03, 0.05, 0.1)
    most: int | None = None
    decoder_scales: tuple[float, ...] = _DECODER_SCALES
    decoder_penalties: tuple[float, ...] = _DECODER_PENALTIES


SCALES = {
    "paper": Scale(
        seeds=3,
        members=10,
        copies=8,
        development_copies=2,
        test_copies=16,
        # 3 was that of a first look, with too narrow a grid of decoders.
        test_seed=4,
        epochs=4,
        student_epochs=12,
        control_epochs=(1, 2, 8, 12),
        small_epochs=60,
        small_control_epochs=(1, 2, 4, 12, 60),
    ),
    "small": Scale(
        seeds=1,
        members=4,
        copies=2,
        development_copies=1,
        test_copies=1,
        test_seed=2,
        epochs=4,
        student_epochs=8,
        control_epochs=(8,),
        small_epochs=10,
        small_control_epochs=(3, 10),
        width=128,
    ),
    "tiny": Scale(
        seeds=1,
        members=3,
        copies=4,
        development_copies=1,
        test_copies=1,
        test_seed=1,
        epochs=5,
        student_epochs=6,
        control_epochs=(6,),
        small_epochs=8,
        small_control_epochs=(8,),
        width=64,
        fractions=(0.25,),
        most=14,
        decoder_scales=(0.15, 0.3),
        decoder_penalties=(-2, 6),
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

    @property
    def development(self):
        """The `Copies` that all choices are made on."""
        return self._plan_copies("development", self.scale.development_copies)

    @property
    def test(self):
        """The `Copies` that networks are judged on, once."""
        return self._plan_copies(
            "test", self.scale.test_copies, seed=self.scale.test_seed
        )

    def plan_train(self, fraction=1.0, seed=0):
        """Returns the `Copies` that every arm is trained on."""
        return self._plan_copies("train", self.scale.copies, fraction, seed)

    def _plan_copies(self, part, count, fraction=1.0, seed=0):
        name = f"{count} x {part} strings"
        if fraction < 1:
            name += f", {fraction:.0%}"
        return Copies(name, seed, self.alignment, part, count, fraction)

    def plan_model(self, name, seed, copies, epochs, **settings):
        """Returns an `AcousticModel`."""
        return AcousticModel(
            f"{name}, {epochs} epochs",
            seed,
            copies,
            self.development,
            epochs,
            self.scale.width,
            **settings,
        )

    def plan_student(self, name, seed, copies, epochs, **settings):
        """Returns an `AcousticModel` that is compared with others.

        It begins with the same weights, and sees the frames in the same order,
        as the others of its seed.
        """
        return self.plan_model(
            name, _FIRST_SEED + seed, copies, epochs, **settings
        )

    def plan_members(self, seed):
        """Returns the baselines that make an ensemble."""
        first = seed * self.scale.members
        return tuple(
            self.plan_model(
                BASELINE, each, self.plan_train(), self.scale.epochs
            )
            for each in range(first, first + self.scale.members)
        )

    def plan_soft_targets(self, teachers, copies, temperature):
        """Returns the `SoftTargets` of teachers."""
        return SoftTargets(
            f"soft targets of {len(teachers)} for {copies.name}",
            teachers[0].seed,
            teachers,
            copies,
            temperature,
        )

    def plan_judgement(self, *models):
        """Returns the `Judgement` of one network, or of several together."""
        first = models[0]
        name = first.name if len(models) == 1 else "ensemble"
        return Judgement(
            f"judgement of {name}",
            first.seed,
            models,
            # One copy tells how frequent states are, and how long they last.
            dataclasses.replace(first.copies, count=1),
            self.development,
            self.test,
            self.scale.decoder_scales,
            self.scale.decoder_penalties,
        )

    def describe(self, judgements):
        """Returns what a system reaches, as a dict.

        Args:
            judgements: List of `Judgement`s.
        """
        return scores.describe(
            self._load(judgements),
            self.test.load(self.root),
            self.scale.decoder_scales,
        )

    def compare(self, judgements, others):
        """Returns the differences of two systems, as a dict."""
        return scores.compare(
            self._load(judgements),
            self._load(others),
            self.test.load(self.root),
            self.scale.seeds,
        )

    def measure_share(self, low, judgements, high):
        """Returns the share of the way from low to high, as a dict."""
        return scores.measure_share(
            *map(self._load, (low, judgements, high)),
            self.test.load(self.root),
            self.scale.seeds,
        )

    def find_best_epochs(self, sweep):
        """Chooses the number of epochs, on the development strings.

        Args:
            sweep: Dict from numbers of epochs to a list of `AcousticModel`s.

        Returns:
            Tuple of the number, and a dict from all numbers to the mean share
            of the development frames that is right.
        """
        reached = {
            epochs: float(
                np.mean([each.find_development(self.root) for each in models])
            )
            for epochs, models in sweep.items()
        }
        return max(reached, key=reached.get), reached

    def _load(self, judgements):
        return [each.load(self.root) for each in judgements]

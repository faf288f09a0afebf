"""What all experiments share: scale, data, and what they train and judge."""

import dataclasses
import pathlib

import numpy as np

from _speech import scores
from _speech.judgement import Judgement
from _speech.models import AcousticModel
from _speech.models import SoftTargets
from _speech.models import load_teacher
from _speech.models import predict
from _speech.preparation import Alignment
from _speech.preparation import Copies

BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is, and the recipe.

    Args:
        seeds: Number of repetitions of every arm.
        members: Networks in an ensemble.
        copies: Copies of the training strings, each strung together anew.
        judged_copies: Copies of the development and of the test strings.
        epochs: Passes over all copies of a baseline.
        patience: How many times as long a student is trained.
        width: Units in a hidden layer.
        temperature: That of the soft targets of an ensemble.
        hard_weight: Weight of the labels beside them.
        small_epochs: Passes over a share of the data, with soft targets.
        small_temperature: The temperature of those.
        fractions: Shares of the data.
        most: Recordings of a digit of a speaker, or `None`: all.
    """

    seeds: int
    members: int
    copies: int
    judged_copies: int
    epochs: int
    patience: int
    small_epochs: int
    width: int = 256
    temperature: float = 2.0
    hard_weight: float = 0.0
    small_temperature: float = 2.0
    fractions: tuple[float, ...] = (0.03, 0.05, 0.1)
    most: int | None = None


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
        fractions=(0.25,),
        most=14,
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
                BASELINE, each, self.plan_train(), self.scale.epochs
            )
            for each in range(first, first + self.scale.members)
        )

    def plan_soft_targets(self, teachers, copies, temperature):
        """Returns the `SoftTargets` of teachers."""
        return SoftTargets(
            "soft targets", teachers[0].seed, teachers, copies, temperature
        )

    def measure_development(self, models):
        """Returns the share of the development frames that is right."""
        strings = self.plan_copies("development").load(self.root)
        logits = predict(load_teacher(models, self.root), strings)
        return float(np.mean(logits.argmax(axis=-1) == strings.labels))

    def plan_judgements(self, models):
        """Returns a list of a `Judgement` of each network."""
        return [self.plan_judgement((each,)) for each in models]

    def plan_judgement(self, models):
        """Returns the `Judgement` of networks, together."""
        first = models[0]
        name = first.name if len(models) == 1 else "ensemble"
        return Judgement(
            f"judgement of {name}",
            first.seed,
            tuple(models),
            self.plan_copies("test"),
        )

    def describe(self, judgements):
        """Returns what a system reaches, as a dict.

        Args:
            judgements: List with a list of `Judgement`s for each seed. Those of
                one seed are averaged.
        """
        return scores.describe(self._load(judgements), self._load_test())

    def compare(self, judgements, others):
        """Returns the differences of two systems, as a dict."""
        return scores.compare(
            self._load(judgements), self._load(others), self._load_test()
        )

    def _load(self, judgements):
        return [
            [each.load(self.root) for each in of_seed] for of_seed in judgements
        ]

    def _load_test(self):
        return self.plan_copies("test").load(self.root)

"""What all experiments share: scale, seeds, data, and trained networks."""

import dataclasses
import pathlib

import numpy as np

import keras_distill
from reproductions.mnist import data
from reproductions.mnist.data import Examples
from reproductions.mnist.networks import STUDENT_WIDTH
from reproductions.mnist.recipes import Scale
from reproductions.mnist.runs import Run

TEACHER = "teacher"
HARD = "student, labels"
SOFT = "student, distilled"


@dataclasses.dataclass(frozen=True)
class Study:
    """A scale and its seeds, on one split of the data.

    Args:
        scale: `Scale`.
        seeds: List of integers.
        train: `Examples` that may be trained on.
        judged: `Examples` that the networks are judged on.
        root: Folder of all runs.
    """

    scale: Scale
    seeds: list[int]
    train: Examples
    judged: Examples
    root: pathlib.Path

    def plan_teacher(self, seed):
        """Returns the `Run` of the teacher of a seed."""
        return Run(
            TEACHER,
            seed,
            self.scale.teacher,
            len(self.train.labels),
            jitter=self.scale.jitter,
        )

    def plan_teachers(self):
        """Returns the `Run`s of an ensemble of teachers."""
        return tuple(map(self.plan_teacher, range(self.scale.ensemble)))

    def plan_student(self, seed, name, recipe, *, soft=True, **settings):
        """Returns the `Run` of a student.

        Args:
            seed: Its seed, and that of its teacher.
            name: Its name.
            recipe: `Recipe`.
            soft: Whether it learns from soft targets or from labels. Those of
                the teacher of its seed, if `settings` has no other ones.
            **settings: Other arguments of `Run`.
        """
        return Run(
            name,
            seed,
            recipe,
            len(self.train.labels),
            **{
                "width": STUDENT_WIDTH,
                "teachers": (self.plan_teacher(seed),) if soft else (),
                **settings,
            },
        )

    def plan_labels(self, seed):
        """Returns the `Run` of the student that learns from labels."""
        return self.plan_student(seed, HARD, self.scale.hard, soft=False)

    def compare(self, planned):
        """Returns the `keras_distill.Comparison` of trained networks.

        Args:
            planned: Dict from names to `Run`s.
        """
        return keras_distill.compare(
            {name: run.load(self.root) for name, run in planned.items()},
            (self.judged_images, self.judged.labels),
            batch_size=1000,
            latency_batch_sizes=(),
            verbose=0,
        )

    def count_errors(self, planned):
        """Returns the errors of trained networks.

        Args:
            planned: Dict from anything to a list of `Run`s, one a seed.

        Returns:
            Dict from the same to a list of integers.
        """
        named = {
            (key, index): run
            for key, each in planned.items()
            for index, run in enumerate(each)
        }
        report = self.compare(named)
        return {
            key: [
                report.models[key, index].errors for index in range(len(each))
            ]
            for key, each in planned.items()
        }

    @property
    def judged_images(self):
        """The images that are judged on, as the networks see them."""
        return data.scale(self.judged.images)

    @property
    def prior(self):
        """The frequencies of the classes among the training images."""
        return np.bincount(self.train.labels) / len(self.train.labels)

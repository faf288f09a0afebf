"""One training: of which network, and on what."""

import dataclasses

import keras
import numpy as np

import keras_distill
from reproductions.common.tasks import Training
from reproductions.common.training import STEPS_PER_EXECUTION
from reproductions.common.training import count_epoch_steps
from reproductions.common.training import fit_or_resume
from reproductions.mnist import data
from reproductions.mnist import networks
from reproductions.mnist.recipes import Recipe

# That of the paper's students.
TEMPERATURE = 20.0

_SOFT_TARGETS = "soft_targets.npy"


@dataclasses.dataclass(frozen=True)
class Run(Training):
    """A training of a teacher or a student.

    Args:
        name: What it is called.
        seed: Integer. Decides on the initial weights and the order of the
            images, their shifts, and which ones are drawn.
        recipe: `Recipe`.
        train_size: Number of training images.
        width: Units of a hidden layer of a student. Defaults to `None`: it is
            a teacher.
        teachers: Tuple of the `Run`s of whose soft targets it learns, at the
            geometric mean of their probabilities. Defaults to none: it learns
            from labels.
        temperature: That of the soft targets. Infinity means the limit,
            `LogitMatching`.
        alpha: Weight of the soft targets.
        average_shifts: Whether the soft targets of an image are those of all
            its shifts, at the geometric mean of their probabilities.
        jitter: How images are shifted by up to two pixels: `"uniform"` or
            `"triangular"`. Defaults to `None`: not.
        classes: Tuple of those that it sees images of. Defaults to `None`:
            all.
        fraction: Share of the training images that it sees, as many of each
            class.
    """

    recipe: Recipe
    train_size: int
    width: int | None = None
    teachers: tuple["Run", ...] = ()
    temperature: float = TEMPERATURE
    alpha: float = 1.0
    average_shifts: bool = False
    jitter: str | None = None
    classes: tuple[int, ...] | None = None
    fraction: float = 1.0

    @property
    def needs(self):
        return self.teachers

    @property
    def work(self):
        width = self.width or networks.TEACHER_WIDTH
        # Multiply-accumulate operations (MACs) for one image.
        macs = (784 + width + 10) * width
        share = self.fraction
        if self.classes is not None:
            share *= len(self.classes) / data.CLASSES
        # What a batch costs whatever the width.
        overhead = 2e7 / self.recipe.batch_size
        examples = self.train_size * share * self.recipe.epochs
        return examples * (macs + overhead)

    def compute(self, folder, root, notify):
        examples = data.load_train(self.train_size)
        model = build(self)
        _fit(self, model, examples, root, folder, notify)
        if self.width is None:
            _label(model, examples, folder / _SOFT_TARGETS)
        return model

    def load_soft_targets(self, root):
        """Returns a teacher's logits of shape `(shifts, images, 10)`."""
        return np.load(self.find_folder(root) / _SOFT_TARGETS, mmap_mode="r")


def build(run):
    """Returns the network with the initial weights of its seed."""
    keras.utils.set_random_seed(run.seed)
    if run.width is None:
        return networks.build_teacher(
            run.recipe.input_dropout, run.recipe.dropout, run.recipe.max_norm
        )
    return networks.build_student(run.width)


def select(run, examples):
    """Returns the indices of the training images that a run sees."""
    chosen = np.arange(len(examples.labels))
    if run.classes is not None:
        chosen = chosen[np.isin(examples.labels, run.classes)]
    drawn = data.draw_share(examples.labels[chosen], run.fraction, run.seed)
    return chosen[drawn]


def _fit(run, model, examples, root, folder, notify):
    """Trains a network, or the rest of it."""
    recipe = run.recipe
    chosen = select(run, examples)
    soft_targets = average_soft_targets(run, chosen, root)
    examples = examples.take(chosen)
    steps = count_epoch_steps(len(examples.labels), recipe.batch_size)
    fit_or_resume(
        _compile(run, model, steps),
        lambda first_epoch: data.make_batches(
            examples,
            recipe.batch_size,
            recipe.epochs,
            run.seed,
            jitter=run.jitter,
            soft_targets=soft_targets,
            first_epoch=first_epoch,
        ),
        steps,
        recipe.epochs,
        folder,
        notify,
    )


def average_soft_targets(run, chosen, root):
    """Returns what a run learns from, as `make_batches` takes it."""
    if not run.teachers:
        return None
    each_shift = run.jitter is not None or run.average_shifts
    shifts = (
        slice(None) if each_shift else slice(data.NO_SHIFT, data.NO_SHIFT + 1)
    )
    soft_targets = np.mean(
        [each.load_soft_targets(root)[shifts, chosen] for each in run.teachers],
        axis=0,
    )
    if run.average_shifts:
        return soft_targets.mean(axis=0, keepdims=True)
    return soft_targets


def _compile(run, model, steps):
    """Returns what `fit` is called on: the network, or its distiller."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {
        "optimizer": run.recipe.build_optimizer(steps * run.recipe.epochs),
        "steps_per_execution": min(steps, STEPS_PER_EXECUTION),
    }
    if not run.teachers:
        model.compile(loss=loss, **options)
        return model
    distiller = keras_distill.Distiller(student=model)
    distiller.compile(
        loss=loss if run.alpha < 1 else None,
        distillation_loss=make_soft_loss(run.temperature),
        alpha=run.alpha,
        **options,
    )
    return distiller


def make_soft_loss(temperature):
    """Returns the distillation loss at a temperature, infinity included."""
    if temperature == float("inf"):
        return keras_distill.losses.LogitMatching()
    return keras_distill.losses.SoftTargetCrossentropy(temperature)


def _label(model, examples, path):
    """Writes a teacher's logits for all images, each way shifted."""
    logits = keras_distill.predict_logits(
        model, data.make_all_shifts(examples.images, 500), verbose=0
    )
    if not np.isfinite(logits).all():
        raise RuntimeError(
            "The teacher's weights became NaN: its recipe has to be another."
        )
    np.save(path, logits.reshape(data.SHIFTS, len(examples.labels), -1))

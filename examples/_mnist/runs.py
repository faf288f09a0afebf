"""One training: of which network, on what, and where it is kept.

A training that is interrupted goes on after its last whole epoch. One that is
finished is not done again, as long as nothing that decides on its outcome has
changed: its folder is named after all of that.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil

import keras
import numpy as np

import keras_distill
from _mnist import data
from _mnist import networks
from _mnist.recipes import Recipe

_MODEL = "model.keras"
_SOFT_TARGETS = "soft_targets.npy"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training.

    Args:
        name: What it is called in progress messages.
        seed: Integer. Decides on the initial weights and the order of the
            images, their shifts, and which ones are drawn.
        recipe: `Recipe`.
        train_size: Number of training images.
        width: Units of a hidden layer of a student. Defaults to `None`: it is
            a teacher.
        teacher: The `Run` of whose soft targets it learns. Defaults to `None`:
            it learns from labels.
        temperature: That of the soft targets. Infinity means the limit,
            `LogitMatching`.
        alpha: Weight of the soft targets.
        jitter: Whether images are shifted by up to two pixels.
        classes: Tuple of those that it sees images of. Defaults to `None`:
            all.
        fraction: Share of the training images that it sees, as many of each
            class.
    """

    name: str
    seed: int
    recipe: Recipe
    train_size: int
    width: int | None = None
    teacher: "Run | None" = None
    temperature: float = 20.0
    alpha: float = 1.0
    jitter: bool = False
    classes: tuple[int, ...] | None = None
    fraction: float = 1.0

    @property
    def key(self):
        """The name of its folder, another one for any other setting."""
        settings = json.dumps(dataclasses.asdict(self), sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        name = re.sub(r"[^\w.]+", "_", self.name)
        return f"{name}-{self.seed}-{digest}"

    @property
    def work(self):
        """About how much computing it is, for the progress bar."""
        width = self.width or networks.TEACHER_WIDTH
        multiply_adds = (784 + width + 10) * width
        share = self.fraction
        if self.classes is not None:
            share *= len(self.classes) / data.CLASSES
        # What a batch costs whatever the width.
        overhead = 2e7 / self.recipe.batch_size
        examples = self.train_size * share * self.recipe.epochs
        return examples * (multiply_adds + overhead)

    def __str__(self):
        return f"{self.name}, seed {self.seed}"


def is_finished(run, root):
    """Returns whether the training is done and kept."""
    return (pathlib.Path(root) / run.key / _MODEL).exists()


def load_model(run, root):
    """Returns the trained network of a finished run."""
    return keras.models.load_model(pathlib.Path(root) / run.key / _MODEL)


def load_soft_targets(run, root):
    """Returns a teacher's logits of shape `(shifts, images, 10)`."""
    path = pathlib.Path(root) / run.key / _SOFT_TARGETS
    return np.load(path, mmap_mode="r")


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
    if run.fraction < 1:
        chosen = _draw(chosen, examples.labels[chosen], run.fraction, run.seed)
    return chosen


def train(run, root, notify=lambda share: None):
    """Trains a network, or the rest of it, and keeps it.

    Args:
        run: `Run`. Its teacher must be finished.
        root: Folder of all runs.
        notify: Function that is told the share that is done, after each epoch.
    """
    if is_finished(run, root):
        return
    folder = pathlib.Path(root) / run.key
    folder.mkdir(parents=True, exist_ok=True)
    examples = data.load_train(run.train_size)
    model = build(run)
    _fit(run, model, examples, root, folder, notify)
    if run.width is None:
        _label(model, examples, folder / _SOFT_TARGETS)
    # Last, and at once: what it means is that all is there.
    model.save(folder / f"unfinished.{_MODEL}")
    (folder / f"unfinished.{_MODEL}").rename(folder / _MODEL)
    shutil.rmtree(folder / "backup", ignore_errors=True)


def _fit(run, model, examples, root, folder, notify):
    """Trains a network, from where its backup is, if there is one."""
    recipe = run.recipe
    chosen = select(run, examples)
    soft_targets = None
    if run.teacher is not None:
        shifts = (
            slice(None)
            if run.jitter
            else slice(data.NO_SHIFT, data.NO_SHIFT + 1)
        )
        soft_targets = load_soft_targets(run.teacher, root)[shifts, chosen]
    examples = examples.take(chosen)
    steps = data.count_steps(examples, recipe.batch_size)
    trained = _compile(run, model, steps)
    backup = keras.callbacks.BackupAndRestore(
        folder / "backup", double_checkpoint=True, delete_checkpoint=False
    )
    first_epoch = _find_epoch(folder / "backup" / "training_metadata.json")
    if first_epoch == recipe.epochs:
        backup.set_model(trained)
        backup.on_train_begin()
        return
    trained.fit(
        data.make_batches(
            examples,
            recipe.batch_size,
            recipe.epochs,
            run.seed,
            jitter=run.jitter,
            soft_targets=soft_targets,
            first_epoch=first_epoch,
        ),
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            backup,
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: notify(
                    (epoch + 1) / recipe.epochs
                )
            ),
            keras.callbacks.TerminateOnNaN(),
        ],
    )


def _compile(run, model, steps):
    """Returns what `fit` is called on: the network, or its distiller."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {
        "optimizer": run.recipe.build_optimizer(steps * run.recipe.epochs),
        "steps_per_execution": min(steps, data.STEPS_PER_EXECUTION),
    }
    if run.teacher is None:
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
    numbers = np.zeros(len(examples.labels), "int32")
    logits = [
        keras_distill.predict_logits(
            model,
            data.scale(data.shift(examples.images, numbers + number)),
            batch_size=500,
            verbose=0,
        )
        for number in range(data.SHIFTS)
    ]
    np.save(path, np.stack(logits))


def _draw(chosen, labels, fraction, seed):
    """Returns a share of the indices, the same of each class."""
    order = np.random.default_rng(seed).permutation(len(chosen))
    drawn = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        drawn.append(members[: max(1, round(fraction * len(members)))])
    return chosen[np.sort(np.concatenate(drawn))]


def _find_epoch(path):
    """Returns the number of whole epochs that a backup has seen."""
    return json.loads(path.read_text())["epoch"] if path.exists() else 0

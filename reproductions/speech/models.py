"""What is trained once and kept: networks, and the soft targets they give."""

import csv
import dataclasses

import keras
import numpy as np
import tensorflow as tf

import keras_distill
from reproductions.common.tasks import Task
from reproductions.common.tasks import Training
from reproductions.common.training import STEPS_PER_EXECUTION
from reproductions.common.training import count_epoch_steps
from reproductions.common.training import draw_batches
from reproductions.common.training import fit_or_resume
from reproductions.speech import corpus
from reproductions.speech.networks import build_acoustic_model
from reproductions.speech.preparation import Copies

_HISTORY = "history.csv"


@dataclasses.dataclass(frozen=True)
class SoftTargets(Task):
    """What the mean of some networks says about each frame.

    Args:
        teachers: Tuple of `AcousticModel`s.
        copies: `Copies`.
        temperature: That at which their probabilities are averaged.
    """

    teachers: tuple["AcousticModel", ...]
    copies: Copies
    temperature: float

    result = "logits.npy"

    @property
    def needs(self):
        return (*self.teachers, self.copies)

    @property
    def work(self):
        return sum(each.count_work(self.copies) for each in self.teachers)

    def compute(self, folder, root, notify):
        return predict(
            load_teacher(self.teachers, root),
            self.copies.load(root),
            self.temperature,
        )

    def save(self, computed, path):
        np.save(path, computed)

    def load(self, root):
        """Returns an array of shape `(frames, 81)`."""
        return np.load(self.find_result(root))


@dataclasses.dataclass(frozen=True)
class AcousticModel(Training):
    """A network from frames to states.

    Args:
        copies: `Copies` that it is trained on.
        development: `Copies` that it is judged on after each epoch.
        epochs: Passes over all copies.
        width: Units in a hidden layer.
        batch_size: Number of frames in a batch.
        learning_rate: The first one of Adam. It falls to 0 with a cosine.
        soft_targets: `SoftTargets`, or `None`: it learns from labels alone.
        hard_weight: Weight of the labels beside the soft targets.
        early_stopping: Whether the epoch that is best on the development
            frames is kept, and not the last one.
    """

    copies: Copies
    development: Copies
    epochs: int
    width: int
    batch_size: int = 256
    learning_rate: float = 1e-3
    soft_targets: SoftTargets | None = None
    hard_weight: float = 0.0
    early_stopping: bool = False

    @property
    def needs(self):
        soft = () if self.soft_targets is None else (self.soft_targets,)
        return (self.copies, self.development, *soft)

    @property
    def work(self):
        # Forth and twice as much back.
        epoch = 3 * self.count_work(self.copies)
        return self.epochs * (epoch + self.count_work(self.development))

    def count_work(self, copies):
        """Returns how much computing it is to label all frames."""
        weights = (504 + 81 + 2 * self.width) * self.width
        return copies.frames * 2 * (weights + 3e4)

    def compute(self, folder, root, notify):
        keras.utils.set_random_seed(self.seed)
        model = build_acoustic_model(self.width)
        strings = self.copies.load(root)
        steps = count_epoch_steps(len(strings.labels), self.batch_size)
        trained = self._compile(model, steps)
        development = self.development.load(root)
        history = folder / _HISTORY
        callbacks = []
        best = folder / "best.weights.h5"
        if self.early_stopping:
            callbacks.append(
                keras.callbacks.ModelCheckpoint(
                    best,
                    monitor="val_accuracy",
                    save_best_only=True,
                    save_weights_only=True,
                    initial_value_threshold=_find_best(folder),
                )
            )
        # After the best weights: what it says is true of them.
        callbacks.append(keras.callbacks.CSVLogger(history, append=True))
        fit_or_resume(
            trained,
            lambda before: self._make_batches(strings, before, root),
            steps,
            self.epochs,
            folder,
            notify,
            callbacks,
            validation_data=_make_frames(development, with_labels=True),
        )
        if self.early_stopping:
            trained.load_weights(best)
        if not all(np.isfinite(each).all() for each in model.get_weights()):
            raise RuntimeError("The weights of a network became NaN.")
        return model

    def load_history(self, root):
        """Returns a dict from the names of logs to a list by epochs."""
        return _read_history(self.find_folder(root))

    def find_development(self, root):
        """Returns the share of the development frames that is right."""
        if self.early_stopping:
            return _find_best(self.find_folder(root))
        return self.load_history(root)["val_accuracy"][-1]

    def _compile(self, model, steps):
        """Returns what is fitted: the network, or its distiller."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        options = {
            "optimizer": keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(
                    self.learning_rate, steps * self.epochs
                )
            ),
            "metrics": ["accuracy"],
            "steps_per_execution": min(steps, STEPS_PER_EXECUTION),
        }
        if self.soft_targets is None:
            model.compile(loss=loss, **options)
            return model
        distiller = keras_distill.Distiller(student=model)
        distiller.compile(
            loss=loss if self.hard_weight else None,
            distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
                self.soft_targets.temperature
            ),
            alpha=1 - self.hard_weight,
            **options,
        )
        return distiller

    def _make_batches(self, strings, before, root):
        """Returns the batches of all epochs but those that were before."""
        windows = corpus.make_windows(strings)
        labels = tf.constant(strings.labels, tf.int32)
        logits = None
        if self.soft_targets is not None:
            logits = tf.constant(self.soft_targets.load(root))

        def look_up(which):
            inputs = windows(which)
            if logits is not None:
                inputs = keras_distill.WithSoftTargets(
                    inputs, tf.gather(logits, which)
                )
            return inputs, tf.gather(labels, which)

        drawn = draw_batches(
            len(strings.labels), self.batch_size, self.epochs, self.seed, before
        )
        return drawn.map(look_up).prefetch(2)


def load_teacher(models, root):
    """Returns one network, or the `keras_distill.Ensemble` of several."""
    loaded = [each.load(root) for each in models]
    return loaded[0] if len(loaded) == 1 else keras_distill.Ensemble(loaded)


def predict(model, strings, temperature=1.0):
    """Returns the logits of all frames, of shape `(frames, 81)`."""
    return keras_distill.predict_logits(
        model, _make_frames(strings), temperature=temperature, verbose=0
    )


def _make_frames(strings, with_labels=False):
    """Returns all frames of strings, in order, in batches."""
    windows = corpus.make_windows(strings)
    labels = tf.constant(strings.labels, tf.int32)
    which = tf.data.Dataset.range(len(strings.labels), output_type=tf.int32)
    return which.batch(2048).map(
        lambda each: (
            (windows(each), tf.gather(labels, each))
            if with_labels
            else windows(each)
        )
    )


def _read_history(folder):
    """Returns a dict from the names of logs to a list by epochs."""
    path = folder / _HISTORY
    if not path.exists():
        return {}
    with open(path) as file:
        # An epoch that was interrupted at its very end comes twice.
        rows = {row["epoch"]: row for row in csv.DictReader(file)}
    rows = list(rows.values())
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def _find_best(folder):
    """Returns the best share of development frames so far, if any."""
    return max(_read_history(folder).get("val_accuracy", ()), default=None)

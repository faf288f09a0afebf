"""Tasks that are kept, resumed, and not done twice.

A task that is finished is not done again, as long as its settings are the same:
its folder is named after them. (Code and versions are not looked at.) An
interrupted training goes on after its last whole epoch.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import time

import keras
import numpy as np
import tensorflow as tf

from _common import STEPS_PER_EXECUTION


@dataclasses.dataclass(frozen=True)
class Task:
    """Something that takes long: its fields decide on what comes out.

    Args:
        name: What it is called in progress messages.
        seed: Integer.
    """

    name: str
    seed: int

    # The file that is written last.
    result = None

    @property
    def needs(self):
        """The tasks that have to be finished before, as a tuple."""
        return ()

    @property
    def work(self):
        """About how much computing it is, in any unit."""
        raise NotImplementedError

    def compute(self, folder, root, notify):
        """Does it, or the rest of it.

        Args:
            folder: That of this task. It is there.
            root: Folder of all tasks.
            notify: Function that is told the share that is done.

        Returns:
            What `save` takes.
        """
        raise NotImplementedError

    def save(self, computed, path):
        """Writes what was computed to a file."""
        raise NotImplementedError

    @property
    def key(self):
        """The name of its folder, another one for any other setting."""
        settings = json.dumps(dataclasses.asdict(self), sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        name = re.sub(r"[^\w.]+", "_", self.name)
        return f"{name}-{self.seed}-{digest}"

    def __str__(self):
        return f"{self.name}, seed {self.seed}"

    def find_folder(self, root):
        """Returns where it is kept."""
        return pathlib.Path(root) / self.key

    def find_result(self, root):
        """Returns the file that is there when it is finished."""
        return self.find_folder(root) / self.result

    def is_finished(self, root):
        """Returns whether it is done and kept."""
        return self.find_result(root).exists()

    def load_seconds(self, root):
        """Returns how long it took, or has taken so far, if that is known."""
        path = self.find_folder(root) / "seconds"
        return float(path.read_text()) if path.exists() else None

    def run(self, root, notify=lambda share: None):
        """Does it, or the rest of it, and keeps it.

        Args:
            root: Folder of all tasks. What it needs is finished there.
            notify: Function that is told the share that is done.
        """
        if self.is_finished(root):
            return
        folder = self.find_folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic() - (self.load_seconds(root) or 0.0)

        def tell(share):
            (folder / "seconds").write_text(f"{time.monotonic() - start:.1f}")
            notify(share)

        computed = self.compute(folder, root, tell)
        # At once, so that no half of it can be taken for the whole.
        unfinished = folder / f"unfinished.{self.result}"
        self.save(computed, unfinished)
        tell(1.0)
        unfinished.rename(folder / self.result)
        shutil.rmtree(folder / "backup", ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Training(Task):
    """A task that gives a network."""

    result = "model.keras"

    def save(self, computed, path):
        computed.save(path)

    def load(self, root):
        """Returns the trained network."""
        return keras.models.load_model(self.find_result(root))


def fit_or_resume(
    model, make_batches, steps, epochs, folder, notify, callbacks=(), **kwargs
):
    """Fits a compiled model, from where its backup is, if there is one.

    Args:
        model: The model, or its distiller.
        make_batches: Function from the number of epochs that were before to
            a dataset of the batches of all others.
        steps: Number of batches in an epoch.
        epochs: Number of epochs, those before included.
        folder: Where the backup is kept.
        notify: Function that is told the share that is done.
        callbacks: Other callbacks.
        **kwargs: Other arguments of `fit`.
    """
    backup = _Backup(folder / "backup")
    before = backup.restore(model)
    if before == epochs:
        # What `fit` ends with: averaged weights take the weights' place.
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return
    model.fit(
        make_batches(before),
        epochs=epochs,
        initial_epoch=before,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
            backup,
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: notify((epoch + 1) / epochs)
            ),
        ],
        **kwargs,
    )


class _Backup(keras.callbacks.Callback):
    """Keeps the state after each epoch, so that a kill costs no more than one.

    Unlike `keras.callbacks.BackupAndRestore` it keeps the states of random
    seeds, which dropout has, and the number of the epoch can not be that of
    other weights: both appear at once.

    Args:
        folder: Where the state is kept.
    """

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def restore(self, model):
        """Returns the number of epochs that are in the state it restores."""
        finished = self._list_epochs()
        if not finished:
            return 0
        last = self._folder / str(max(finished))
        model.optimizer.build(model.trainable_variables)
        model.load_weights(last / "model.weights.h5")
        with np.load(last / "seeds.npz") as seeds:
            for number, variable in enumerate(_list_seeds(model)):
                variable.assign(seeds[str(number)])
        return max(finished)

    def on_epoch_end(self, epoch, logs=None):
        unfinished = self._folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self.model.save_weights(unfinished / "model.weights.h5")
        np.savez(
            unfinished / "seeds.npz",
            **{
                str(number): keras.ops.convert_to_numpy(variable)
                for number, variable in enumerate(_list_seeds(self.model))
            },
        )
        unfinished.rename(self._folder / str(epoch + 1))
        for former in self._list_epochs() - {epoch + 1}:
            shutil.rmtree(self._folder / str(former))

    def _list_epochs(self):
        return {
            int(path.name)
            for path in self._folder.glob("*")
            if path.name.isdigit()
        }


def _list_seeds(model):
    """Returns the variables that weights files do not have."""
    known = {id(each) for each in model.weights}
    return [each for each in model.variables if id(each) not in known]


def count_epoch_steps(examples, batch_size):
    """Returns the number of batches in an epoch of `draw_batches`.

    It is a multiple of `STEPS_PER_EXECUTION`, or below it. The examples that
    are left over are others in each epoch.
    """
    steps = examples // batch_size
    if steps < 1:
        raise ValueError(
            f"Expected at least {batch_size} examples, a batch of them. "
            f"Received: {examples}"
        )
    return steps - steps % min(steps, STEPS_PER_EXECUTION)


def draw_batches(
    examples, batch_size, epochs, seed, first_epoch=0, draw=lambda seeds: ()
):
    """Returns which examples are in the batches of a training.

    What is drawn depends on the seed and the number of the epoch alone, so that
    a training that is resumed sees what it would have seen.

    Args:
        examples: Number of examples.
        batch_size: Number of examples in a batch.
        epochs: Number of epochs.
        seed: Integer.
        first_epoch: Epochs that were before.
        draw: Function from seeds, as `tf.random.stateless_uniform` takes them,
            to a tuple of tensors of shape `(examples,)`: what else is drawn
            for each place in an epoch.

    Returns:
        A `tf.data.Dataset` of tuples: indices, and what else is drawn. Neither
        it nor what is made of it is tuned while it is read.
    """
    steps = count_epoch_steps(examples, batch_size)

    def draw_epoch(epoch):
        seeds = tf.stack([tf.constant(seed, epoch.dtype), epoch])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(examples), seed=seeds
        )
        each = tf.data.Dataset.from_tensor_slices((order, *draw(seeds)))
        return each.batch(batch_size).take(steps)

    # Whoever ends a training may wait for the thread that tunes it: once more
    # as long as it took, or up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    drawn = tf.data.Dataset.range(first_epoch, epochs).flat_map(draw_epoch)
    return drawn.with_options(options)

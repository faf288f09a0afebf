"""Tasks that are kept, resumed, and not done twice.

A task that is finished is not done again, as long as nothing that decides on
its outcome has changed: its folder is named after all of that. A training that
is interrupted goes on after its last whole epoch.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil

import keras
import numpy as np


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
        computed = self.compute(folder, root, notify)
        # At once, so that no half of it can be taken for the whole.
        unfinished = folder / f"unfinished.{self.result}"
        self.save(computed, unfinished)
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
    backup = keras.callbacks.BackupAndRestore(
        folder / "backup", double_checkpoint=True, delete_checkpoint=False
    )
    path = folder / "backup" / "training_metadata.json"
    before = json.loads(path.read_text())["epoch"] if path.exists() else 0
    if before == epochs:
        backup.set_model(model)
        backup.on_train_begin()
        return
    model.fit(
        make_batches(before),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            backup,
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: notify((epoch + 1) / epochs)
            ),
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
        ],
        **kwargs,
    )


def save_array(array, path):
    """Writes an array to a file of any name."""
    with open(path, "wb") as file:
        np.save(file, array)

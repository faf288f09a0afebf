"""Trainings that are kept, resumed, and not done twice.

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

_MODEL = "model.keras"


@dataclasses.dataclass(frozen=True)
class Training:
    """A training of one network: the fields decide on what comes out.

    Args:
        name: What it is called in progress messages.
        seed: Integer.
    """

    name: str
    seed: int

    @property
    def needs(self):
        """The trainings that have to be finished before, as a tuple."""
        return ()

    @property
    def work(self):
        """About how much computing it is, in any unit."""
        raise NotImplementedError

    def fit(self, folder, root, notify):
        """Trains the network, or the rest of it.

        Args:
            folder: That of this training. It is there.
            root: Folder of all trainings.
            notify: Function that is told the share that is done.

        Returns:
            The network.
        """
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

    def is_finished(self, root):
        """Returns whether it is done and kept."""
        return (self.find_folder(root) / _MODEL).exists()

    def load(self, root):
        """Returns the trained network."""
        return keras.models.load_model(self.find_folder(root) / _MODEL)

    def train(self, root, notify=lambda share: None):
        """Trains the network, or the rest of it, and keeps it.

        Args:
            root: Folder of all trainings. What it needs is finished there.
            notify: Function that is told the share that is done.
        """
        if self.is_finished(root):
            return
        folder = self.find_folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.fit(folder, root, notify)
        # Last, and at once: what it means is that all is there.
        unfinished = folder / f"unfinished.{_MODEL}"
        model.save(unfinished)
        unfinished.rename(folder / _MODEL)
        shutil.rmtree(folder / "backup", ignore_errors=True)


def fit_or_resume(model, make_batches, steps, epochs, folder, notify):
    """Fits a compiled model, from where its backup is, if there is one.

    Args:
        model: The model, or its distiller.
        make_batches: Function from the number of epochs that were before to
            a dataset of the batches of all others.
        steps: Number of batches in an epoch.
        epochs: Number of epochs, those before included.
        folder: Where the backup is kept.
        notify: Function that is told the share that is done.
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
        ],
    )

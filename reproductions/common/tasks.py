"""Tasks whose results are kept and not computed twice.

A finished task is not computed again while its settings stay the same: its
folder is named after its settings. (Code and versions do not count.)
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import time

import keras


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

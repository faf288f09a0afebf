"""A training that is killed goes on in a new process."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

TRAIN = """
import json, os, signal, sys
import keras
import numpy as np
import pytest
import keras_distill

backup, result, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(24, 6)).astype("float32")
y = rng.integers(0, 5, 24)


def model(units):
    return keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(units, activation="relu"),
        keras.layers.Dense(5),
    ])


class Kill(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


teacher, student = model(32), model(8)
distiller = keras_distill.Distiller(student=student, teacher=teacher)
distiller.compile(
    keras.optimizers.Adam(0.01),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
history = distiller.fit(
    x, y, batch_size=8, epochs=5, shuffle=False, verbose=0,
    callbacks=[keras.callbacks.BackupAndRestore(backup), Kill()],
)
with open(result, "w") as file:
    json.dump({
        "epochs": history.epoch,
        "loss": history.history["loss"],
        "iterations": int(distiller.optimizer.iterations),
        "weights": [w.tolist() for w in student.get_weights()],
    }, file)
"""


def train(folder, name, kill_at=0):
    return subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(TRAIN),
            str(folder / "backup" / name),
            str(folder / f"{name}.json"),
            str(kill_at),
        ],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    ).returncode


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed(tmp_path):
    assert train(tmp_path, "whole") == 0
    # Three steps an epoch: the eighth is in the middle of the third epoch.
    assert train(tmp_path, "killed", kill_at=8) == -signal.SIGKILL
    assert not (tmp_path / "killed.json").exists()
    assert train(tmp_path, "killed") == 0
    whole = json.loads((tmp_path / "whole.json").read_text())
    resumed = json.loads((tmp_path / "killed.json").read_text())
    assert whole["epochs"] == [0, 1, 2, 3, 4]
    assert resumed["epochs"] == [2, 3, 4]
    assert resumed["iterations"] == whole["iterations"] == 15
    np.testing.assert_allclose(resumed["loss"], whole["loss"][2:], rtol=1e-6)
    for ours, theirs in zip(resumed["weights"], whole["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)

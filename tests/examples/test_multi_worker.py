"""The example for several machines, with its two processes."""

import os
import pathlib
import subprocess
import sys

import keras
import sklearn.datasets

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "multi_worker.py"


def test_two_workers(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            *("--epochs", "6", "--folder", str(tmp_path)),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
        text=True,
    )
    assert "The student, by all workers:" in done.stdout
    assert "Epoch 6/6" in done.stdout
    student = keras.models.load_model(tmp_path / "student.keras")
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    predicted = student.predict(x[1280:] / 16, verbose=0).argmax(-1)
    # By chance it would be a tenth.
    assert (predicted == y[1280:]).mean() > 0.6

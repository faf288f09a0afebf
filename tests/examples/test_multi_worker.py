"""The example for several machines, with its two processes."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import keras
import pytest
import sklearn.datasets

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "multi_worker.py"


def start(folder, epochs):
    """Starts the example in a process group of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            str(SCRIPT),
            *("--epochs", str(epochs), "--folder", str(folder)),
        ],
        env={k: v for k, v in os.environ.items() if k != "TF_CONFIG"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )


def run(folder, epochs):
    """Returns what the example prints."""
    process = start(folder, epochs)
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    return output


def read_epoch(folder):
    """Returns how many epochs the backup has."""
    try:
        content = (folder / "backup" / "training_metadata.json").read_text()
    except FileNotFoundError:
        return 0
    return json.loads(content or '{"epoch": 0}')["epoch"]


def end_after_an_epoch(folder, end):
    """Starts a training that is long, and ends it after an epoch or more.

    Args:
        folder: That of the example.
        end: Function of the process.

    Returns:
        The process group.
    """
    before = read_epoch(folder)
    with start(folder, 10_000) as process:
        try:
            deadline = time.monotonic() + 300
            while read_epoch(folder) <= before:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            end(process)
    return process.pid


def test_two_workers_resume(tmp_path):
    """After SIGKILL and after Ctrl-C, and the student learns."""
    end_after_an_epoch(
        tmp_path, lambda process: os.killpg(process.pid, signal.SIGKILL)
    )
    assert not (tmp_path / "student.keras").exists()
    group = end_after_an_epoch(
        tmp_path, lambda process: process.send_signal(signal.SIGINT)
    )
    # It has taken its workers with it: there is nobody to kill.
    with pytest.raises(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    before = read_epoch(tmp_path)
    assert before >= 2
    last = max(before + 2, 6)
    output = run(tmp_path, last)
    epochs = [int(number) for number in re.findall(r"Epoch (\d+)/", output)]
    assert epochs == list(range(before + 1, last + 1))
    assert "The student, by all workers:" in output
    student = keras.models.load_model(tmp_path / "student.keras")
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    predicted = student.predict(x[1280:] / 16, verbose=0).argmax(-1)
    # By chance it would be a tenth.
    assert (predicted == y[1280:]).mean() > 0.6

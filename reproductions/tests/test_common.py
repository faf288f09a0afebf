"""What the reproductions share: tasks, and trainings that resume."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from reproductions.common import tasks
from reproductions.common import training
from reproductions.common import workers


def test_a_training_resumes_with_its_dropout(tmp_path):
    def make_model():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(8),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = x[:, :1]

    def make_batches(before):
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        return batches.repeat(2 - before)

    def fit(model, epochs, folder):
        training.fit_or_resume(
            model, make_batches, 4, epochs, folder, lambda share: None
        )
        return model.get_weights()

    expected = fit(make_model(), 2, tmp_path / "whole")
    fit(make_model(), 1, tmp_path / "parts")
    # After the first epoch, and after the last one.
    for _ in range(2):
        # A kill during a backup leaves this folder.
        (tmp_path / "parts" / "backup" / "unfinished").mkdir()
        found = fit(make_model(), 2, tmp_path / "parts")
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_time_is_that_of_all_parts(tmp_path, monkeypatch):
    """Of a task that is killed, and the one that it needs."""
    now = [0.0]
    monkeypatch.setattr(tasks.time, "monotonic", lambda: now[0])

    @dataclasses.dataclass(frozen=True)
    class Slow(tasks.Task):
        needs: tuple = ()
        work = 1.0
        result = "result"

        def compute(self, folder, root, notify):
            now[0] += 10.0
            notify(0.5)
            now[0] += 2.0
            if not (folder / "killed").exists():
                (folder / "killed").touch()
                raise KeyboardInterrupt

        def save(self, computed, path):
            path.touch()

    needed = Slow("needed", 0)
    task = Slow("task", 0, (needed,))
    for each in (needed, task):
        with pytest.raises(KeyboardInterrupt):
            each.run(tmp_path)
        now[0] += 1000.0
        each.run(tmp_path)
        each.run(tmp_path)
        # What came after the last that is known of the first part is lost.
        assert each.load_seconds(tmp_path) == 10 + 12
    expected = {"tasks": 2, "minutes": round(44 / 60, 1)}
    assert workers.measure_time([task, task], tmp_path) == expected
    # Too little is not said.
    (needed.find_folder(tmp_path) / "seconds").unlink()
    expected = {"tasks": 2, "minutes": None}
    assert workers.measure_time([task], tmp_path) == expected


def test_steps_of_an_epoch():
    assert training.count_epoch_steps(60000, 64) == 920
    assert training.count_epoch_steps(70, 8) == 8
    with pytest.raises(ValueError, match="Received: 5"):
        training.count_epoch_steps(5, 8)

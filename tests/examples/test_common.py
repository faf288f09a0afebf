import importlib.util
import math
import pathlib

import keras
import numpy as np
import pytest

import keras_distill

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def common():
    path = EXAMPLES / "_common.py"
    spec = importlib.util.spec_from_file_location("example_common", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_batches_are_full_and_repeat_all_examples(common):
    batches = common.make_batches(
        np.arange(10), np.arange(10), batch_size=4, steps=5, seed=0
    )
    assert len(batches) == 5
    seen = [images.numpy() for images, _ in batches]
    assert [len(batch) for batch in seen] == [4] * 5
    np.testing.assert_array_equal(
        np.bincount(np.concatenate(seen)), np.full(10, 2)
    )


def test_count_steps(common):
    assert common.count_steps(10, 2, 4) == 5
    assert common.count_steps(10, 1, 4) == 3


def test_mean_and_error(common):
    mean, error = common.mean_and_error([1.0, 2.0, 3.0])
    assert mean == 2
    assert error == pytest.approx(1 / math.sqrt(3))
    mean, error = common.mean_and_error([7])
    assert mean == 7
    assert math.isnan(error)


def test_measure(common):
    logits = np.eye(3)[[0, 1, 2, 2]]
    teacher_logits = np.eye(3)[[0, 1, 1, 0]]
    measured = common.measure(logits, np.array([0, 1, 2, 1]), teacher_logits)
    assert measured == {"errors": 1, "accuracy": 0.75, "agreement": 0.5}


def test_softmax_at_a_temperature(common):
    probabilities = common.softmax(np.array([[2e4, 0.0], [0.0, 2.0]]), 2.0)
    expected = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(
        probabilities, [[1, 0], [1 - expected, expected]]
    )


def test_pick_ambiguous_takes_what_the_teacher_reads_right(common):
    logits = np.array([[9, 0], [1, 0], [0, 0.1], [0, 5], [0, 3]], "float32")
    labels = np.array([0, 0, 0, 1, 1])
    assert common.pick_ambiguous(logits, labels, 1.0, 2) == [1, 4]
    assert common.pick_ambiguous(logits, labels, 1.0, 1) == [1]


def test_export_and_check_notices_another_network(common, tmp_path):
    def build():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    class WrongExport(keras_distill.Distiller):
        def export(self, filepath, **kwargs):
            build().export(filepath, **kwargs)

    images = np.ones((4, 3), "float32")
    right = keras_distill.Distiller(student=build())
    assert common.export_and_check(right, tmp_path / "right", images) < 1e-6
    wrong = WrongExport(student=build())
    with pytest.raises(RuntimeError, match="differs from the trained one"):
        common.export_and_check(wrong, tmp_path / "wrong", images)

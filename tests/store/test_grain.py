"""Soft targets through Grain, which reads data for JAX and PyTorch."""

import grain
import keras
import numpy as np
import pytest
from absl import flags

import keras_distill


class Pairs:
    """A transfer set and its soft targets as a data source of Grain."""

    def __init__(self, x, y, store):
        self._x, self._y, self._store = x, y, store

    def __len__(self):
        return len(self._store)

    def __getitem__(self, number):
        inputs = keras_distill.WithSoftTargets(
            self._x[number], self._store[number]
        )
        return inputs, self._y[number]


@pytest.mark.parametrize("top_k", [None, 2])
def test_trains_as_on_an_attached_store(data, make_model, tmp_path, top_k):
    x, y = data
    store = keras_distill.SoftTargetStore.create(
        tmp_path, make_model(seed=3), x, top_k=top_k, verbose=0
    )

    def train(batches):
        student = make_model(seed=5)
        distiller = keras_distill.Distiller(student=student)
        distiller.compile(
            keras.optimizers.SGD(0.01),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            alpha=0.7,
            distillation_loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
        )
        logs = distiller.fit(batches, epochs=2, shuffle=False, verbose=0)
        return logs.history, student.get_weights()

    logs, weights = train(grain.MapDataset.source(Pairs(x, y, store)).batch(8))
    expected_logs, expected = train(store.attach((x, y), batch_size=8))
    assert logs.keys() == expected_logs.keys()
    for name, values in expected_logs.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-6)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_store_is_a_source_in_the_order_of_the_examples(
    data, make_model, tmp_path
):
    teacher = make_model(seed=3)
    store = keras_distill.SoftTargetStore.create(
        tmp_path, teacher, data[0], dtype="float32", verbose=0
    )
    batches = list(grain.MapDataset.source(store).batch(6))
    np.testing.assert_allclose(
        np.concatenate(batches),
        keras_distill.predict_logits(teacher, data[0], verbose=0),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.slow
def test_other_processes_read_the_same(data, make_model, tmp_path):
    x, y = data
    store = keras_distill.SoftTargetStore.create(
        tmp_path, make_model(seed=3), x, verbose=0
    )
    batches = grain.MapDataset.source(Pairs(x, y, store)).batch(8)
    expected = list(batches)
    # `absl.app.run` does this. The workers get the flags of Grain.
    flags.FLAGS.mark_as_parsed()
    received = list(
        batches.to_iter_dataset().mp_prefetch(
            grain.MultiprocessingOptions(num_workers=2)
        )
    )
    assert len(received) == len(expected) == 3
    for ours, theirs in zip(received, expected, strict=True):
        keras.tree.assert_same_structure(ours, theirs)
        for pair in zip(
            keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True
        ):
            np.testing.assert_array_equal(*pair)

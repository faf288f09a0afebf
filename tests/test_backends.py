"""What holds on each backend of Keras in its own way."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

import keras_distill


def dense(units, *widths, seed=0):
    return keras.Sequential(
        [
            keras.Input((6,)),
            *(keras.layers.Dense(width, "relu") for width in widths),
            keras.layers.Dense(
                units,
                kernel_initializer=keras.initializers.RandomNormal(seed=seed),
            ),
        ]
    )


def make_distiller(teacher, student=None):
    distiller = keras_distill.Distiller(
        student=student or dense(5, seed=1), teacher=teacher
    )
    distiller.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return distiller


@pytest.mark.backend("jax", "torch", reason="TensorFlow needs itself")
def test_tensorflow_is_not_needed(data, tmp_path):
    """Neither to distill arrays, nor to create and read a store."""
    x, y = data
    np.savez(tmp_path / "data.npz", x=x, y=y)
    script = """
        import sys

        # As if it was not installed.
        sys.modules["tensorflow"] = None

        import keras
        import numpy as np
        import keras_distill

        data = np.load(sys.argv[1] + "/data.npz")
        x, y = data["x"], data["y"]

        def model():
            return keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])

        distiller = keras_distill.Distiller(student=model(), teacher=model())
        distiller.compile("sgd", "sparse_categorical_crossentropy")
        distiller.fit(x, y, validation_split=0.2, verbose=0)
        distiller.fit(x, y, cache=False, verbose=0)
        path = sys.argv[1] + "/store"
        teacher = distiller.teacher
        keras_distill.SoftTargetStore.create(path, teacher, (x, y), verbose=0)
        store = keras_distill.SoftTargetStore(path)
        distiller.fit(store.attach((x, y), batch_size=8), verbose=0)
        assert store[:].shape == (22, 5)
        keras_distill.compare(
            {"student": distiller.student}, (x, y), verbose=0
        )
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        check=True,
    )


@pytest.mark.backend("jax", reason="only JAX compiles constants")
def test_the_program_does_not_grow_with_the_teacher(data):
    import jax

    from keras_distill.backend.jax import _Batch

    x, y = (ops.convert_to_tensor(each) for each in data)

    def measure(width, as_constants=False):
        distiller = make_distiller(dense(5, width))
        distiller.fit(*data, verbose=0, cache=False)
        state = distiller._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
        )
        batch = (x, y)
        if not as_constants:
            values = [each.value for each in distiller.list_step_variables()]
            batch = _Batch(batch, values)
        lowered = jax.jit(distiller.train_step).lower(state, batch)
        return len(lowered.as_text())

    assert measure(1000) < 1.01 * measure(10)
    # It would be seen.
    assert measure(1000, as_constants=True) > 2 * measure(1000)


@pytest.mark.backend("torch", reason="only PyTorch has a gradient mode")
def test_the_teacher_runs_without_gradients(data):
    import torch

    enabled = []

    class Notes(keras.layers.Layer):
        def call(self, inputs):
            enabled.append(torch.is_grad_enabled())
            return inputs

    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, dense(5)(Notes()(inputs)))
    distiller = make_distiller(teacher)
    enabled.clear()
    distiller.fit(*data, verbose=0, cache=False)
    assert enabled == [False]
    assert all(weight.value.grad is None for weight in teacher.weights)


@pytest.mark.backend("torch", reason="students are modules only on PyTorch")
def test_the_student_is_a_module(data):
    """A training loop of PyTorch goes on where `fit` was."""
    import torch

    x, y = data
    student = dense(5, seed=1)
    make_distiller(dense(5, seed=3), student).fit(x, y, verbose=0)
    assert isinstance(student, torch.nn.Module)
    inputs = torch.as_tensor(x)
    np.testing.assert_allclose(
        student(inputs).detach(), student.predict(x, verbose=0), rtol=1e-5
    )
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            student(inputs), torch.as_tensor(y)
        )
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_models_outlive_an_error(data):
    """What an error says can be mended, with the same distiller."""
    x, y = data
    distiller = make_distiller(dense(5, seed=3))
    before = distiller.student.get_weights()
    with pytest.raises(ValueError, match="no labels"):
        distiller.fit(x, verbose=0, cache=False)
    for ours, then in zip(distiller.student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, then)
    distiller.fit(x, y, verbose=0)


def test_teachers_outlive_an_error(data):
    x, _ = data
    distiller = keras_distill.Distiller(
        student=dense(5, seed=1), teacher=[dense(5, seed=3), dense(5, seed=4)]
    )
    make_loss = keras_distill.losses.SoftTargetCrossentropy
    distiller.compile("sgd", distillation_loss=[make_loss(2.0), make_loss(3.0)])
    with pytest.raises(ValueError, match="same `temperature`"):
        distiller.fit(x, verbose=0)
    distiller.compile("sgd", distillation_loss=make_loss(2.0))
    distiller.fit(x, verbose=0)


@pytest.mark.backend("jax", "torch", reason="TensorFlow builds while it trains")
def test_no_batch_is_lost(data):
    """Of data that can be read once, once everything is built."""
    x, y = data
    seen = []

    def batches():
        for start in range(0, 20, 4):
            seen.append(start)
            yield x[start : start + 4], y[start : start + 4]

    distiller = make_distiller(dense(5, seed=3))
    distiller.fit(x, y, verbose=0)
    order = []

    class Notes(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            order.append(batch)

    distiller.fit(batches(), verbose=0, callbacks=[Notes()])
    assert seen == list(range(0, 20, 4))
    assert order == list(range(5))

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

import keras_distill
from backends import value_and_gradient


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_values_against_numpy(temperature, size):
    logits = size * np.random.default_rng(0).normal(size=(5, 7))
    logits = logits.astype("float32")
    layer = keras_distill.TemperatureSoftmax(temperature)
    np.testing.assert_allclose(
        layer(logits, training=True),
        softmax(np.float64(logits) / temperature, -1),
        rtol=5e-6,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        layer(logits), softmax(np.float64(logits), -1), rtol=5e-6, atol=1e-7
    )


def test_serving_temperature():
    logits = np.float32([[1.0, 2.0, 4.0]])
    layer = keras_distill.TemperatureSoftmax(4.0, serving_temperature=2.0)
    np.testing.assert_allclose(
        layer(logits, training=False), softmax(logits / 2, -1), rtol=1e-6
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_against_numpy(temperature):
    logits = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    weights = np.random.default_rng(2).normal(size=(3, 4)).astype("float32")
    layer = keras_distill.TemperatureSoftmax(temperature)
    _, gradient = value_and_gradient(
        lambda x: ops.sum(layer(x, training=True) * ops.array(weights)), logits
    )
    p = softmax(np.float64(logits) / temperature, -1)
    expected = p * (weights - np.sum(p * weights, -1, keepdims=True))
    np.testing.assert_allclose(
        gradient, expected / temperature, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("axis", [-1, 1, [1, 2]])
def test_axis_and_mask_as_in_softmax(axis):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 3, 4)).astype("float32")
    mask = rng.random((2, 3, 4)) < 0.6
    mask[0] = False  # Nothing left: all probabilities are 0.
    layer = keras_distill.TemperatureSoftmax(2.0, axis=axis)
    keras_softmax = keras.layers.Softmax(axis=axis)
    for each in (None, mask):
        np.testing.assert_allclose(
            layer(logits, mask=each, training=True),
            keras_softmax(logits / 2, mask=each),
            rtol=1e-5,
            atol=1e-7,
        )
        np.testing.assert_allclose(
            layer(logits, mask=each),
            keras_softmax(logits, mask=each),
            rtol=1e-5,
            atol=1e-7,
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_finite(dtype):
    logits = keras.ops.cast([[6e4, -6e4, 5.9e4], [0.0, 1.0, 2.0]], dtype)
    layer = keras_distill.TemperatureSoftmax(20.0, dtype=dtype)
    exact = np.float64(keras.ops.cast(logits, "float32"))
    np.testing.assert_allclose(
        np.float64(keras.ops.cast(layer(logits, training=True), "float32")),
        softmax(exact / 20, -1),
        atol=1e-2,
    )


def test_trains_at_one_temperature_and_serves_at_another(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4),
            keras_distill.TemperatureSoftmax(5.0),
        ]
    )
    x = np.random.default_rng(4).normal(size=(2, 3)).astype("float32")
    logits = np.float64(x @ model.layers[0].kernel)
    np.testing.assert_allclose(
        model(x, training=True), softmax(logits / 5, -1), rtol=1e-5
    )
    np.testing.assert_allclose(
        model.predict(x, verbose=0), softmax(logits, -1), rtol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded(x, training=True), model(x, training=True)
    )
    layer = loaded.layers[-1]
    assert layer.get_config() == model.layers[-1].get_config()

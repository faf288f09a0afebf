"""`predict_logits` and `suggest_temperature`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill
import reference


def logits_by_hand(model, x):
    kernel, bias = map(np.float64, model.get_weights())
    return x @ kernel + bias


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("form", ["array", "dataset", "generator"])
def test_logits_with_and_without_a_softmax(data, make_model, activation, form):
    x, y = data
    model = make_model(activation)
    model.layers[-1].kernel.assign(100 * model.layers[-1].kernel)
    batches = [(x[:16], y[:16]), (x[16:], y[16:])]
    given = {
        "array": lambda: x,
        "dataset": lambda: tf.data.Dataset.from_tensor_slices((x, y)).batch(5),
        "generator": lambda: (batch for batch in batches),
    }[form]()
    np.testing.assert_allclose(
        keras_distill.predict_logits(model, given, verbose=0),
        logits_by_hand(model, x),
        rtol=1e-4,
        atol=1e-3,
    )


def test_logits_of_a_function_of_probabilities(data, make_model):
    x, _ = data
    model = make_model("softmax")
    found = keras_distill.predict_logits(
        lambda inputs: model(inputs), x, from_logits=False, verbose=0
    )
    expected = logits_by_hand(model, x)
    np.testing.assert_allclose(
        found - found.max(-1, keepdims=True),
        expected - expected.max(-1, keepdims=True),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_suggested_temperature_has_the_entropy(data, make_model, share):
    x, _ = data
    teacher = make_model("softmax")
    teacher.layers[-1].kernel.assign(3 * teacher.layers[-1].kernel)
    temperature = keras_distill.suggest_temperature(teacher, x, share=share)
    assert 1 < temperature < 1000
    entropy = reference.entropy(logits_by_hand(teacher, x), temperature)
    assert entropy.mean() / np.log(5) == pytest.approx(share, rel=0.02)


def test_suggested_temperature_is_at_least_1():
    def teacher(x):
        return keras.ops.zeros((keras.ops.shape(x)[0], 4))

    x = np.zeros((8, 3), "float32")
    assert keras_distill.suggest_temperature(teacher, x) == 1.0


@pytest.mark.parametrize("share", [0, 1, -1, "a", None])
def test_bad_share(data, make_model, share):
    with pytest.raises(ValueError, match="share"):
        keras_distill.suggest_temperature(make_model(), data[0], share=share)


def test_a_list_is_several_inputs():
    first, second = keras.Input((3,)), keras.Input((3,))
    model = keras.Model(
        [first, second],
        keras.layers.Dense(4)(keras.layers.Subtract()([first, second])),
    )
    inputs = [*np.random.default_rng(0).normal(size=(2, 5, 3)).astype("f")]
    np.testing.assert_allclose(
        keras_distill.predict_logits(model, inputs, verbose=0),
        model.predict(inputs, verbose=0),
        rtol=1e-6,
    )

"""A softmax at the end of a model is found, and its logits are used."""

import threading

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

import keras_distill
from keras_distill.forward import forward

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def dense(**kwargs):
    return keras.layers.Dense(5, kernel_initializer="random_normal", **kwargs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = dense(activation="softmax")

    def call(self, inputs):
        return self.head(inputs)


def functional(*layers):
    inputs = outputs = keras.Input((4,))
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


MODELS = {
    "activation_string": lambda: keras.Sequential(
        [dense(activation="softmax")]
    ),
    "activation_function": lambda: functional(
        dense(activation=keras.ops.softmax)
    ),
    "activation_layer": lambda: functional(
        dense(), keras.layers.Activation("softmax")
    ),
    "softmax_layer": lambda: functional(dense(), keras.layers.Softmax()),
    "temperature_softmax": lambda: functional(
        dense(), keras_distill.TemperatureSoftmax(4.0)
    ),
    "operation": lambda: functional(dense(), keras.ops.softmax),
    "nested": lambda: functional(
        keras.layers.Dense(4, activation="softmax"),
        keras.Sequential([dense(), keras.layers.Softmax()]),
    ),
    "subclassed": Subclassed,
}


def head(model):
    return next(
        layer
        for layer in reversed(model._flatten_layers())
        if isinstance(layer, keras.layers.Dense) and layer.units == 5
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_softmax_is_recognised(name, training):
    model = MODELS[name]()
    result = forward(model, X, training=training)
    probabilities = result.outputs
    logits = np.float64(result.logits[0])
    np.testing.assert_allclose(
        softmax(logits, -1), probabilities, rtol=1e-5, atol=1e-7
    )
    inputs = X
    if name == "nested":
        inputs = np.float32(model.layers[1](X))
    layer = head(model)
    np.testing.assert_allclose(
        logits, inputs @ layer.kernel + layer.bias, atol=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_left_as_it_was(name):
    model = MODELS[name]()
    before = model(X)
    activations = [
        getattr(layer, "activation", None) for layer in model._flatten_layers()
    ]
    calls = ["call" in vars(layer) for layer in model._flatten_layers()]
    forward(model, X)
    assert activations == [
        getattr(layer, "activation", None) for layer in model._flatten_layers()
    ]
    assert calls == ["call" in vars(layer) for layer in model._flatten_layers()]
    np.testing.assert_array_equal(before, model(X))


def test_a_softmax_that_is_not_the_output_is_none():
    model = functional(dense(activation="softmax"), keras.layers.Dense(3))
    assert forward(model, X).logits == (None,)


def test_the_logits_do_not_underflow():
    model = functional(dense(activation="softmax"))
    model.layers[-1].kernel.assign(1e4 * model.layers[-1].kernel)
    result = forward(model, X)
    assert np.min(ops.convert_to_numpy(result.outputs)) == 0
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(
        result.logits[0], X @ kernel + bias, rtol=1e-5, atol=1e-2
    )


def test_class_mask_reaches_the_logits():
    inputs, mask = keras.Input((4,)), keras.Input((5,), dtype="bool")
    outputs = keras.layers.Softmax()(dense()(inputs), mask=mask)
    model = keras.Model([inputs, mask], outputs)
    allowed = np.array([[True, False, True, True, False]] * 3)
    result = forward(model, [X, allowed])
    logits = np.float64(result.logits[0])
    np.testing.assert_array_equal(logits == -1e9, ~allowed)
    np.testing.assert_allclose(softmax(logits, -1), result.outputs, atol=1e-6)


def test_a_failing_model_is_left_as_it_was():
    class Failing(keras.layers.Layer):
        def call(self, inputs):
            raise RuntimeError("no")

    model = keras.Sequential([dense(activation="softmax"), Failing()])
    activation = model.layers[0].activation
    with pytest.raises(RuntimeError):
        forward(model, X)
    assert model.layers[0].activation is activation


def test_threads_that_share_a_layer():
    """The second begins within the first, and goes on after its end."""
    shared = dense(activation="softmax")
    running, within, ended = (threading.Event() for _ in range(3))

    class First(keras.layers.Layer):
        def call(self, inputs):
            if running.is_set():  # Not while the model is put together.
                second.start()
                assert within.wait(timeout=30)
            return inputs

    class Second(keras.layers.Layer):
        def call(self, inputs):
            if running.is_set():
                within.set()
                assert ended.wait(timeout=30)
            return inputs

    models = [functional(First(), shared), functional(Second(), shared)]
    results = {}

    def run(position):
        (results[position],) = forward(
            models[position], X * (position + 1)
        ).logits

    running.set()
    second = threading.Thread(target=run, args=(1,))
    run(0)
    ended.set()
    second.join()
    for position in range(2):
        np.testing.assert_allclose(
            results[position],
            (position + 1) * X @ shared.kernel + shared.bias,
            atol=1e-5,
        )
    assert shared.activation is keras.activations.softmax


def test_temperature_softmax_that_is_not_the_output():
    """Only at the end of a model is its temperature the loss's affair."""
    inside = functional(
        dense(), keras_distill.TemperatureSoftmax(5.0), keras.layers.Dense(3)
    )
    np.testing.assert_array_equal(
        forward(inside, X, training=True).outputs, inside(X, training=True)
    )
    at_the_end = functional(dense(), keras_distill.TemperatureSoftmax(5.0))
    np.testing.assert_array_equal(
        forward(at_the_end, X, training=True).outputs, at_the_end(X)
    )


def test_a_class_mask_by_position():
    inputs, mask = keras.Input((5,)), keras.Input((5,), dtype="bool")
    by_position = keras.layers.Softmax()(inputs, mask)
    model = keras.Model([inputs, mask], by_position)
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    kept = np.tile([True, True, False, True, True], (3, 1))
    result = forward(model, [logits, kept])
    expected = softmax(np.where(kept, np.float64(logits), -np.inf), axis=-1)
    np.testing.assert_allclose(
        softmax(np.float64(result.logits[0]), axis=-1), expected, atol=1e-6
    )


@pytest.mark.parametrize("training", [True, False])
def test_layers_are_read_in_the_same_pass(training):
    calls = []

    class Counts(keras.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    hidden = keras.layers.Dense(7, activation="relu", name="hidden")
    nested = keras.Sequential([hidden, Counts()])
    head = dense(activation="softmax", name="head")
    model = functional(nested, head)
    calls.clear()
    result = forward(model, X, training=training, layers=[hidden, head])
    assert len(calls) == 1
    assert set(result.features) == {"hidden", "head"}
    np.testing.assert_allclose(result.features["hidden"], hidden(X))
    np.testing.assert_allclose(result.features["head"], result.outputs)
    assert result.logits[0] is not None
    assert "call" not in vars(hidden)
    assert "call" not in vars(head)


def test_a_pass_is_a_pytree():
    result = forward(functional(dense(activation="softmax")), X)
    doubled = keras.tree.map_structure(
        lambda x: x if x is None else 2 * x, result
    )
    assert type(doubled) is type(result)
    np.testing.assert_allclose(
        doubled.logits[0], 2 * ops.convert_to_numpy(result.logits[0])
    )

"""The optimizer of the networks on MNIST."""

import keras
import numpy as np
import pytest

from reproductions.mnist.optimizers import FusedAdam

OPTIONS = {
    "learning_rate": 0.01,
    "beta_1": 0.8,
    "beta_2": 0.95,
    "epsilon": 1e-3,
}


def draw_gradients(scale=1.0):
    return scale * np.random.default_rng(0).normal(size=(20, 4, 3))


def descend(optimizer, gradients):
    """Returns a variable, at first of ones, after all steps."""
    variable = keras.Variable(np.ones(gradients.shape[1:]), dtype="float32")
    for gradient in gradients:
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, "float32")], [variable]
        )
    optimizer.finalize_variable_values([variable])
    return keras.ops.convert_to_numpy(variable)


# The squares of the last ones are neither 0 nor infinite.
@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-18, 1e18])
def test_formula(scale):
    """Algorithm 1 of Kingma and Ba, 2014, with its "epsilon hat"."""
    gradients = draw_gradients(scale)
    expected = np.ones((4, 3))
    momentum = velocity = 0.0
    rate, beta_1, beta_2, epsilon = OPTIONS.values()
    for step, gradient in enumerate(gradients, 1):
        momentum = beta_1 * momentum + (1 - beta_1) * gradient
        velocity = beta_2 * velocity + (1 - beta_2) * gradient**2
        alpha = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        expected -= alpha * momentum / (np.sqrt(velocity) + epsilon)
    found = descend(FusedAdam(**OPTIONS), gradients)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1},
        {"use_ema": True, "ema_momentum": 0.9},
        {"clipnorm": 0.5},
        {"gradient_accumulation_steps": 2},
    ],
)
def test_options_are_those_of_keras(options):
    ours, theirs = (
        descend(each(**OPTIONS, **options), draw_gradients())
        for each in (FusedAdam, keras.optimizers.Adam)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_half_precision():
    """As in Keras, the variable decides."""
    optimizer = FusedAdam(0.5)
    variable = keras.Variable([1.0, 1.0], dtype="float16")
    gradient = keras.ops.convert_to_tensor([2.0, -2.0], "float16")
    optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(variable), [0.5, 1.5], rtol=1e-3
    )


def test_it_is_saved_with_its_model(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(FusedAdam(0.25), "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is FusedAdam
    assert loaded.get_config() == model.optimizer.get_config()
    for ours, theirs in zip(
        loaded.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="Received: amsgrad=True"):
        descend(FusedAdam(amsgrad=True), draw_gradients())

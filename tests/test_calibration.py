"""`shift_class_bias` and `match_class_prior`."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

import keras_distill
from keras_distill import calibration
from markers import saved_model

FEATURES, CLASSES = 6, 5


def softmax_function():
    inputs = keras.Input((FEATURES,))
    return keras.Model(
        inputs, keras.ops.softmax(keras.layers.Dense(CLASSES)(inputs))
    )


def nested():
    inner = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)]
    )
    return keras.Sequential(
        [keras.Input((FEATURES,)), inner, keras.layers.Softmax()]
    )


def sequential(*layers):
    return keras.Sequential([keras.Input((FEATURES,)), *layers])


def convolutional():
    return keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Conv2D(CLASSES, 1)]
    )


MODELS = {
    "dense": lambda: sequential(keras.layers.Dense(CLASSES)),
    "activation": lambda: sequential(
        keras.layers.Dense(CLASSES, activation="softmax")
    ),
    "activation layer": lambda: sequential(
        keras.layers.Dense(CLASSES), keras.layers.Activation("softmax")
    ),
    "linear layer": lambda: sequential(
        keras.layers.Dense(CLASSES),
        keras.layers.Activation("linear", dtype="float32"),
    ),
    "activation of keras.ops": lambda: sequential(
        keras.layers.Dense(CLASSES, activation=keras.ops.softmax)
    ),
    "softmax layer": lambda: sequential(
        keras.layers.Dense(CLASSES), keras_distill.TemperatureSoftmax(4.0)
    ),
    "softmax function": softmax_function,
    "nested": nested,
    "convolutional": convolutional,
    "einsum": lambda: sequential(
        keras.layers.EinsumDense("ab,bc->ac", CLASSES, bias_axes="c")
    ),
    "half": lambda: sequential(
        keras.layers.Dense(CLASSES, dtype="mixed_float16")
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_shifted(name, tmp_path):
    model = MODELS[name]()
    x = np.random.default_rng(0).normal(size=(7, *model.input_shape[1:]))
    x = x.astype("float32")
    before = keras_distill.predict_logits(model, x, verbose=0)
    weights = [weight.copy() for weight in model.get_weights()]
    shifted = calibration.shift_class_bias(model, {1: 3.5, 4: -2})
    expected = before + np.array([0, 3.5, 0, 0, -2])
    tolerance = 1e-2 if name == "half" else 1e-5
    found = keras_distill.predict_logits(shifted, x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    # The original model does not change.
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    # The result is an ordinary model.
    shifted.save(tmp_path / "shifted.keras")
    again = keras.models.load_model(tmp_path / "shifted.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), shifted.predict(x, verbose=0), rtol=1e-6
    )


@saved_model
@pytest.mark.parametrize("name", MODELS)
def test_a_shifted_model_can_be_exported(name, tmp_path):
    import tensorflow as tf

    model = MODELS[name]()
    x = np.random.default_rng(0).normal(size=(7, *model.input_shape[1:]))
    x = x.astype("float32")
    shifted = calibration.shift_class_bias(model, {1: 3.5, 4: -2})
    shifted.export(tmp_path / "shifted", verbose=False)
    served = tf.saved_model.load(tmp_path / "shifted")
    np.testing.assert_allclose(
        served.serve(x),
        shifted.predict(x, verbose=0),
        atol=1e-2 if name == "half" else 1e-5,
    )


def test_a_shift_for_each_class():
    model = MODELS["dense"]()
    shifted = calibration.shift_class_bias(model, np.arange(CLASSES))
    (_, before), (_, after) = (
        m.layers[-1].get_weights() for m in (model, shifted)
    )
    np.testing.assert_allclose(after - before, np.arange(CLASSES))


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("prior", [None, [0.4, 0.3, 0.2, 0.09, 0.01]])
def test_the_mean_probability_is_the_prior(scale, prior):
    model = MODELS["activation"]()
    layer = model.layers[-1]
    layer.kernel.assign(scale * layer.kernel)
    layer.bias.assign([0, -7, 0, 2, 0])
    x = np.random.default_rng(0).normal(size=(400, FEATURES))
    x = x.astype("float32")
    shifts = calibration.match_class_prior(model, x, prior, verbose=0)
    kernel, bias = map(np.float64, layer.get_weights())
    logits = np.float64(x) @ kernel + bias
    expected = prior or np.full(CLASSES, 1 / CLASSES)
    np.testing.assert_allclose(
        softmax(logits + shifts, -1).mean(0), expected, atol=1e-5
    )
    assert np.median(shifts) == pytest.approx(0, abs=1e-12)
    shifted = calibration.shift_class_bias(model, shifts)
    np.testing.assert_allclose(
        shifted.predict(x, verbose=0).mean(0), expected, atol=1e-4
    )


def test_a_known_shift_is_recovered():
    """The shift equals the amount subtracted from the class."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(5000, CLASSES))
    prior = softmax(logits, -1).mean(0)
    changed = logits - np.array([0, 0, 6.0, 0, 0])
    shifts = calibration.match_class_prior(
        lambda x: x, changed, prior, verbose=0
    )
    np.testing.assert_allclose(shifts, [0, 0, 6, 0, 0], atol=1e-3)


def subclassed():
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.dense(x)

    model = Student()
    model(np.zeros((1, FEATURES)))
    return model


@pytest.mark.parametrize(
    ("make", "shifts", "message"),
    [
        (lambda: "student", {}, "Received: 'student'"),
        (subclassed, {}, "built with"),
        (
            lambda: sequential(keras.layers.Dense(CLASSES, use_bias=False)),
            {},
            "a bias for each class",
        ),
        (
            lambda: sequential(
                keras.layers.Dense(CLASSES), keras.layers.ReLU()
            ),
            {},
            "a bias for each class",
        ),
        (
            lambda: sequential(keras.layers.Dense(CLASSES, activation="relu")),
            {},
            "no other activation",
        ),
        (MODELS["dense"], {5: 1.0}, "keys of shifts=5"),
        (MODELS["dense"], {"a": 1.0}, "keys of shifts='a'"),
        (MODELS["dense"], {1: np.nan}, "shifts=nan"),
        (MODELS["dense"], {True: 1.0}, "keys of shifts=True"),
        (MODELS["dense"], [1.0, 2.0], r"shifts=\[1.0, 2.0\]"),
        (MODELS["dense"], 3.5, "shifts=3.5"),
        (MODELS["dense"], None, "shifts=None"),
    ],
)
def test_models_and_shifts_that_raise_an_error(make, shifts, message):
    with pytest.raises(ValueError, match=message):
        calibration.shift_class_bias(make(), shifts)


@pytest.mark.parametrize(
    "prior",
    [
        [0.5, 0.5],
        [0.5, 0.5, 0, 0, 0],
        [1, 1, 1, 1, 1],
        [0.2] * 4 + [np.nan],
    ],
)
def test_bad_prior(prior):
    x = np.zeros((3, FEATURES), "float32")
    with pytest.raises(ValueError, match="5 positive numbers that sum to 1"):
        calibration.match_class_prior(MODELS["dense"](), x, prior, verbose=0)


@pytest.mark.parametrize("prior", [{3: 0.5}, "uniform"])
def test_prior_of_a_wrong_type(prior):
    x = np.zeros((3, FEATURES), "float32")
    with pytest.raises(ValueError, match="5 positive numbers"):
        calibration.match_class_prior(MODELS["dense"](), x, prior, verbose=0)


def test_small_frequencies_are_matched():
    logits = np.random.default_rng(0).normal(size=(1000, CLASSES))
    prior = np.array([1e-7, 1e-6, 0.2, 0.3, 0.5])
    prior /= prior.sum()
    shifts = calibration.match_class_prior(
        lambda x: x, logits, prior, verbose=0
    )
    np.testing.assert_allclose(
        softmax(np.float32(logits) + shifts, -1).mean(0), prior, rtol=2e-3
    )


def test_a_single_class_has_no_prior():
    with pytest.raises(ValueError, match=r"two or more classes.*\(3, 1\)"):
        calibration.match_class_prior(
            lambda x: x, np.zeros((3, 1), "float32"), verbose=0
        )


def test_no_inputs():
    with pytest.raises(ValueError, match="at least one example"):
        calibration.match_class_prior(
            MODELS["dense"](), np.zeros((0, FEATURES), "float32"), verbose=0
        )


def test_logits_that_are_not_finite():
    logits = np.zeros((4, CLASSES), "float32")
    logits[2, 1] = np.nan
    with pytest.raises(ValueError, match="finite logits"):
        calibration.match_class_prior(lambda x: x, logits, verbose=0)

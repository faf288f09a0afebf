"""Arrays are told apart, whatever is in them."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_distill
from keras_distill.fingerprints import fingerprint_arrays
from keras_distill.fingerprints import fingerprint_model


def of_strings(*strings):
    return np.array(strings, object)


def of_rows(*rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


LONG = np.arange(2000.0)
CHANGED = np.where(LONG == 1500, -1, LONG)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (of_strings("ab", "c"), of_strings("a", "bc")),
        (of_strings(b"a", ""), of_strings(b"", "a")),
        (of_strings("1", "2"), of_strings(1, 2)),
        (of_rows([1, 2], [3]), of_rows([1], [2, 3])),
        # NumPy writes but the ends of so many.
        (of_rows(LONG, LONG[:9]), of_rows(CHANGED, LONG[:9])),
        (np.array(["a", "b"]), np.array(["a", "c"])),
        (LONG, CHANGED),
        (LONG, LONG.reshape(2, -1)),
        (np.zeros(2, "int32"), np.zeros(2, "float32")),
        ([LONG, CHANGED], [CHANGED, LONG]),
        ({"a": LONG}, {"b": LONG}),
    ],
)
def test_what_differs_has_another_hash(first, second):
    hashes = [fingerprint_arrays(each) for each in (first, second)]
    assert hashes[0] != hashes[1]
    # Nor does the hash depend on where the array is.
    for each, hashed in zip((first, second), hashes, strict=True):
        if isinstance(each, np.ndarray):
            assert fingerprint_arrays(each.copy()) == hashed


# ---- Models


def dense(activation="relu", name=None):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(
        4, activation=activation, name=name, kernel_initializer="ones"
    )(inputs)
    return keras.Model(inputs, ops.exp(hidden) + inputs)


def relu(x):
    return x


def trained():
    model = dense()
    model.layers[1].bias.assign(np.ones(4))
    return model


def replace(model, attribute, value):
    setattr(model.layers[1], attribute, value)
    return model


def ensemble(**kwargs):
    return keras_distill.Ensemble([dense(), dense("tanh")], **kwargs)


def test_equal_models_have_the_same_fingerprint(tmp_path):
    """Whatever their names are, and however they were used."""
    for make in (
        dense,
        ensemble,
        lambda: keras.Sequential([keras.Input((4,)), dense(), dense("tanh")]),
    ):
        model = make()
        known = fingerprint_model(model)
        assert known is not None
        assert fingerprint_model(make()) == known
        model.compile("adam", "mse", metrics=["mae"])
        model.predict(np.zeros((2, 4)), verbose=0)
        model.trainable = False
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert fingerprint_model(model) == fingerprint_model(loaded) == known


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (dense, lambda: dense("tanh")),
        # The name of a layer is no activation.
        (lambda: dense("relu", "relu"), lambda: dense("tanh", "tanh")),
        (dense, lambda: replace(dense(), "activation", keras.activations.gelu)),
        (dense, trained),
        (ensemble, lambda: ensemble(weights=[0.4, 0.6])),
        (ensemble, lambda: ensemble(combine="geometric")),
        (ensemble, lambda: ensemble(from_logits=False)),
        (ensemble, lambda: ensemble(axis=1)),
    ],
)
def test_different_models_have_different_fingerprints(first, second):
    hashes = [fingerprint_model(make()) for make in (first, second)]
    assert None not in hashes
    assert hashes[0] != hashes[1]


@pytest.mark.backend("tensorflow", reason="strings need TensorFlow")
@pytest.mark.parametrize("layer", ["StringLookup", "TextVectorization"])
def test_a_vocabulary_is_state(layer):
    layer = getattr(keras.layers, layer)()
    model = keras.Sequential([keras.Input((), dtype="string"), layer])
    hashes = []
    for words in (["a", "b"], ["a", "c"], ["a", "b"]):
        layer.adapt(np.array(words))
        hashes.append(fingerprint_model(model))
    assert None not in hashes
    assert hashes[0] == hashes[2] != hashes[1]


class Scales(keras.layers.Layer):
    """Its factor is not in its config."""

    factor = 2.0

    def call(self, inputs):
        return self.factor * inputs


class Calls(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = dense()

    def call(self, inputs):
        return self.inner(inputs)


def call_instead(model):
    model.call = lambda inputs: 2 * inputs
    return model


@pytest.mark.parametrize(
    "make",
    [
        Calls,
        Scales,
        lambda: keras.layers.Lambda(relu),
        lambda: replace(dense(), "activation", relu),
        lambda: replace(dense(), "activation", functools.partial(ops.relu)),
        lambda: replace(dense(), "call", relu),
        lambda: call_instead(dense()),
        lambda: keras.layers.TimeDistributed(Scales()),
        lambda: keras_distill.Ensemble([dense(), Scales()]),
    ],
)
def test_a_change_of_python_code_would_be_invisible(make):
    assert fingerprint_model(make()) is None

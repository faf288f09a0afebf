"""The cost of models, compared with counts by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_distill
from keras_distill.evaluation import cost


def sequential(shape, *hidden, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *hidden])


def attention():
    inputs = keras.Input((5, 8))
    heads = layers.MultiHeadAttention(num_heads=2, key_dim=4)
    return keras.Model(inputs, heads(inputs, inputs))


IMAGE = (8, 8, 3)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            sequential((20,), layers.Dense(30, "relu"), layers.Dense(10)),
            20 * 30 + 30 * 10,
        ),
        (
            sequential(IMAGE, layers.Conv2D(4, 3, padding="same")),
            8 * 8 * 4 * 3 * 3 * 3,
        ),
        (
            sequential(IMAGE, layers.Conv2D(4, 3, strides=2, padding="valid")),
            3 * 3 * 4 * 3 * 3 * 3,
        ),
        (
            sequential(IMAGE, layers.DepthwiseConv2D(3, padding="same")),
            8 * 8 * 3 * 3 * 3,
        ),
        (
            sequential(IMAGE, layers.SeparableConv2D(5, 3, padding="same")),
            8 * 8 * (3 * 3 * 3 + 3 * 5),
        ),
        (
            sequential(IMAGE, layers.Conv2DTranspose(5, 3, padding="same")),
            8 * 8 * 3 * 3 * 3 * 5,
        ),
        (
            sequential((8, 3), layers.Conv1D(5, 3, padding="same")),
            8 * 5 * 3 * 3,
        ),
        (
            sequential((4, 4, 4, 2), layers.Conv3D(3, 2, padding="same")),
            4 * 4 * 4 * 3 * 2 * 2 * 2 * 2,
        ),
        # Projections to and from 2 heads of 4, scores, and their mean.
        (attention(), 4 * 5 * 8 * 8 + 2 * (2 * 5 * 5 * 4)),
        (
            sequential(
                (5,),
                layers.Embedding(100, 7),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3),
                dtype="int32",
            ),
            7 * 3,
        ),
        # A loop hides how often its operations run, except in PyTorch.
        (
            sequential((5, 6), layers.LSTM(7)),
            5 * 4 * 7 * (6 + 7) if keras.backend.backend() == "torch" else None,
        ),
    ],
)
def test_macs(model, expected):
    inputs = np.zeros((2, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    assert cost.measure_macs(model, inputs) == expected


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)]
)
def test_bytes_and_parameters(dtype, size):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, dtype=dtype),
            layers.BatchNormalization(dtype="float32"),
        ]
    )
    assert cost.count_parameters(model) == 35 + 20
    assert cost.count_bytes(model) == 35 * size + 20 * 4


def test_bytes_of_a_quantized_model():
    model = sequential((6,), layers.Dense(5))
    model.quantize("int8")
    expected = sum(
        np.prod(weight.shape, dtype=int) * (1 if weight.dtype == "int8" else 4)
        for weight in model.weights
    )
    assert cost.count_bytes(model) == expected


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("bool", 1),
        ("int8", 1),
        ("bfloat16", 2),
        pytest.param(
            *("float8_e4m3fn", 1),
            marks=pytest.mark.skipif(
                keras.backend.backend() == "tensorflow",
                reason="TensorFlow makes no zeros of this dtype.",
            ),
        ),
    ],
)
def test_bytes_of_a_dtype(dtype, size):
    dense = layers.Dense(5)
    dense.add_weight((8,), "zeros", dtype, trainable=False)
    model = sequential((6,), dense)
    assert cost.count_bytes(model) == 35 * 4 + 8 * size


def test_latency_of_equal_batches():
    """Each model is called with a batch of the size asked for."""
    sizes = {"a": set(), "b": set()}

    def record(name):
        def call(x):
            sizes[name].add(len(x))
            return x

        return call

    x = np.arange(6.0).reshape(3, 2)
    found = cost.measure_latency({n: record(n) for n in sizes}, x, 7)
    assert sizes == {"a": {7}, "b": {7}}
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize(
    "hiding",
    [
        lambda x: tf.numpy_function(lambda y: y @ np.eye(4), [x], tf.float64),
        lambda x: tf.py_function(lambda y: y @ np.eye(4), [x], tf.float64),
        lambda x: tf.switch_case(
            tf.cast(x[0, 0], tf.int32),
            [lambda: x @ tf.ones((4, 4), x.dtype), lambda: x],
        ),
    ],
)
@pytest.mark.backend(
    "tensorflow", reason="counts operations in a TensorFlow graph"
)
def test_hidden_operations_are_not_counted(hiding):
    assert cost.measure_macs(hiding, np.zeros((2, 4))) is None


def test_an_ensemble_of_functions_has_no_known_size(make_model):
    model = make_model()
    ensemble = keras_distill.Ensemble([lambda x: x, model])
    assert cost.count_parameters(ensemble) is None
    assert cost.count_bytes(ensemble) is None

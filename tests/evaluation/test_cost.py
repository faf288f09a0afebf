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


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            sequential((20,), layers.Dense(30, "relu"), layers.Dense(10)),
            20 * 30 + 30 * 10,
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
        # PyTorch counts the operations of a loop. Other backends cannot.
        (
            sequential((5, 6), layers.LSTM(7)),
            5 * 4 * 7 * (6 + 7) if keras.backend.backend() == "torch" else None,
        ),
    ],
)
def test_macs(model, expected):
    inputs = np.zeros((2, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    assert cost.measure_macs(model, inputs) == expected


def count_by_hand(layer, image, positions):
    """Counts the channels that are combined at each tap and position."""
    taps = np.prod(layer.kernel_size)
    if isinstance(layer, layers.SeparableConv2D):
        return positions * (taps * image[-1] + image[-1] * layer.filters)
    if isinstance(layer, layers.DepthwiseConv2D):
        return positions * taps * image[-1] * layer.depth_multiplier
    groups = getattr(layer, "groups", 1)
    return positions * taps * (image[-1] // groups) * layer.filters


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("layer", "image", "positions"),
    [
        (layers.Conv2D(6, 3, padding="same"), (9, 9, 4), 9 * 9),
        (layers.Conv2D(6, (3, 2)), (9, 9, 4), 7 * 8),
        (layers.Conv2D(6, 3, strides=2), (9, 9, 4), 4 * 4),
        (layers.Conv2D(6, 3, strides=2, groups=2), (9, 9, 4), 4 * 4),
        (layers.Conv2D(6, 3, dilation_rate=2), (9, 9, 4), 5 * 5),
        (
            layers.Conv2D(6, 3, dilation_rate=2, padding="same", groups=2),
            *((9, 9, 4), 9 * 9),
        ),
        (layers.DepthwiseConv2D(3, strides=2), (9, 9, 4), 4 * 4),
        (
            layers.DepthwiseConv2D(
                3, dilation_rate=2, padding="same", depth_multiplier=2
            ),
            *((9, 9, 4), 9 * 9),
        ),
        (layers.SeparableConv2D(5, 3, padding="same"), (8, 8, 3), 8 * 8),
        (layers.SeparableConv2D(5, 3, strides=2), (9, 9, 3), 4 * 4),
        # A transposed convolution starts from each input.
        (layers.Conv2DTranspose(5, 3), (9, 8, 4), 9 * 8),
        (layers.Conv2DTranspose(5, 3, padding="same"), (9, 8, 4), 9 * 8),
        (layers.Conv2DTranspose(5, 3, strides=2), (9, 8, 4), 9 * 8),
        (layers.Conv2DTranspose(5, 2, strides=3), (9, 8, 4), 9 * 8),
        (
            layers.Conv2DTranspose(5, 3, strides=2, padding="same"),
            *((9, 8, 4), 9 * 8),
        ),
        (layers.Conv2DTranspose(5, 3, dilation_rate=2), (9, 8, 4), 9 * 8),
        (layers.Conv1D(6, 3, padding="same"), (9, 4), 9),
        (
            layers.Conv1D(6, 3, dilation_rate=2, padding="causal", groups=2),
            *((9, 4), 9),
        ),
        (layers.Conv1DTranspose(6, 3, strides=2), (9, 4), 9),
        (layers.Conv3D(6, 2, padding="same"), (4, 4, 4, 2), 4**3),
        (layers.Conv3D(6, 3, dilation_rate=2), (9, 9, 9, 4), 5**3),
        (layers.Conv3DTranspose(6, 3, strides=2), (5, 5, 5, 4), 5**3),
    ],
)
def test_macs_of_convolutions(layer, image, positions):
    model = sequential(image, layer)
    assert cost.measure_macs(
        model, np.zeros((2, *image), "float32")
    ) == count_by_hand(layer, image, positions)


@pytest.mark.compiled
@pytest.mark.backend("tensorflow", reason="calls a TensorFlow function")
def test_macs_inside_of_a_function():
    function = tf.function(lambda x: x @ tf.ones((4, 5), x.dtype))
    assert cost.measure_macs(function, np.zeros((2, 4))) == 4 * 5
    assert not tf.config.functions_run_eagerly()


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
                reason="TensorFlow cannot create zeros of this dtype.",
            ),
        ),
    ],
)
def test_bytes_of_a_dtype(dtype, size):
    dense = layers.Dense(5)
    dense.add_weight((8,), "zeros", dtype, trainable=False)
    model = sequential((6,), dense)
    assert cost.count_bytes(model) == 35 * 4 + 8 * size


def test_latency_uses_the_requested_batch_size():
    """Each model gets batches of the requested size."""
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
    weighted = keras_distill.Ensemble(
        [model, model], weights=lambda x: x[:, :2]
    )
    for unknown in (
        ensemble,
        weighted,
        keras_distill.Ensemble([ensemble, model]),
    ):
        assert cost.count_parameters(unknown) is None
        assert cost.count_bytes(unknown) is None


def test_parameters_of_an_ensemble_of_late_built_members():
    members = [layers.Dense(5), layers.Dense(5)]
    ensemble = keras_distill.Ensemble(members)
    keras_distill.predict_logits(ensemble, np.zeros((2, 6)), verbose=0)
    assert cost.count_parameters(ensemble) == 2 * (6 * 5 + 5)

"""NaN, infinity, offsets and extreme temperatures, against float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import softmax

import keras_distill
import reference
from backends import value_and_gradient
from keras_distill import Ensemble
from keras_distill import losses
from keras_distill import metrics

INFINITY = float("inf")
NAN = float("nan")
SOFT_LOSSES = {
    losses.SoftTargetCrossentropy: reference.crossentropy,
    losses.SoftTargetKLDivergence: reference.kl_divergence,
}
ALL_LOSSES = [*SOFT_LOSSES, losses.LogitMatching]
DISTILLATION_METRICS = [
    metrics.SoftTargetEntropy,
    metrics.TeacherAgreement,
    metrics.TeacherKLDivergence,
]
LABEL_METRICS = [metrics.BrierScore, metrics.ExpectedCalibrationError]


@pytest.fixture
def pair():
    """Returns logits of teacher and student, of shape (6, 4)."""
    return np.random.default_rng(7).normal(size=(2, 6, 4)).astype("float32")


def with_column(logits, value):
    """Adds a class with a constant logit in front."""
    column = np.full((len(logits), 1), value, "float32")
    return np.concatenate([column, logits], axis=1)


def without_softmax(function):
    """Returns a model of one input, of which the last layer is unknown."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Lambda(function)(inputs))


# ---- Minus infinity: a class that is ruled out


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("make", SOFT_LOSSES)
def test_a_class_that_both_rule_out_does_not_count(pair, make, temperature):
    teacher, student = pair
    loss = make(temperature, reduction="none")
    value = loss(
        with_column(teacher, -INFINITY), with_column(student, -INFINITY)
    )
    np.testing.assert_allclose(
        value, SOFT_LOSSES[make](teacher, student, temperature), rtol=1e-5
    )
    summed = make(temperature, reduction="sum")
    _, gradient = value_and_gradient(
        lambda z: summed(with_column(teacher, -INFINITY), z),
        with_column(student, -INFINITY),
    )
    np.testing.assert_allclose(
        gradient,
        with_column(reference.soft_gradient(teacher, student, temperature), 0),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("make", SOFT_LOSSES)
def test_a_class_that_only_the_teacher_rules_out(pair, make):
    teacher, student = pair
    student = with_column(student, 1.0)
    lowered = with_column(teacher, -1e9)
    value = make(4.0, reduction="none")(
        with_column(teacher, -INFINITY), student
    )
    expected = reference.crossentropy(lowered, student, 4.0)
    if make is losses.SoftTargetKLDivergence:
        p = softmax(np.float64(teacher) / 4, axis=-1)
        expected = expected + 16 * np.sum(p * np.log(p), axis=-1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("make", SOFT_LOSSES)
def test_a_class_that_only_the_student_rules_out(pair, make):
    """The loss is infinite, and its gradient is not."""
    teacher, student = pair
    teacher, student = (
        with_column(teacher, 1.0),
        with_column(student, -INFINITY),
    )
    value, gradient = value_and_gradient(
        lambda z: make(4.0, reduction="sum")(teacher, z), student
    )
    assert value == INFINITY
    # Samples with an infinite loss have no gradient.
    assert gradient is None or not gradient.any()


def test_metrics_of_a_class_that_is_ruled_out(pair):
    teacher, student = pair
    hidden = [with_column(logits, -INFINITY) for logits in pair]
    for make in DISTILLATION_METRICS:
        expected, found = make(), make()
        expected.update_state(teacher, student)
        found.update_state(*hidden)
        np.testing.assert_allclose(found.result(), expected.result(), rtol=1e-6)
    divergence = metrics.TeacherKLDivergence()
    divergence.update_state(with_column(teacher, 1.0), hidden[1])
    assert float(divergence.result()) == INFINITY


@pytest.mark.parametrize("combine", ["arithmetic", "geometric"])
def test_ensemble_of_members_that_rule_out_a_class(pair, combine):
    first, second = [with_column(logits, -INFINITY) for logits in pair]
    weights = [0.0, 1.0]
    for members, expected in (
        ((first, first), first),
        ((first, second), second),
    ):
        ensemble = Ensemble(
            [lambda x, z=z: ops.convert_to_tensor(z) for z in members],
            combine,
            weights=weights,
        )
        found = softmax(np.float64(ensemble(np.zeros((6, 4)))), axis=-1)
        np.testing.assert_allclose(
            found, softmax(np.float64(expected), axis=-1), rtol=1e-5
        )


# ---- A common offset of the logits


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_an_offset_costs_no_digits(pair, offset):
    # Multiples of 1/16 are exact beside an offset of a million.
    teacher, student = np.round(16 * pair) / 16 + np.float32(
        [[[offset]], [[-offset]]]
    )
    for make in SOFT_LOSSES:
        np.testing.assert_allclose(
            make(2.0, reduction="none")(teacher, student),
            SOFT_LOSSES[make](teacher, student, 2.0),
            rtol=1e-5,
            atol=1e-7,
        )
    value, gradient = value_and_gradient(
        lambda z: losses.LogitMatching(reduction="sum")(teacher, z), student
    )
    np.testing.assert_allclose(
        value, reference.logit_matching(teacher, student).sum(), rtol=1e-6
    )
    np.testing.assert_allclose(
        gradient,
        reference.logit_matching_gradient(teacher, student),
        rtol=1e-5,
        atol=1e-7,
    )
    p, q = [softmax(np.float64(z), axis=-1) for z in (teacher, student)]
    members = [lambda x: ops.convert_to_tensor(teacher)]
    members += [lambda x: ops.convert_to_tensor(student)]
    product = np.sqrt(p * q)
    for combine, mean in (
        ("arithmetic", (p + q) / 2),
        ("geometric", product / product.sum(axis=-1, keepdims=True)),
    ):
        found = Ensemble(members, combine)(np.zeros((6, 4)))
        np.testing.assert_allclose(
            softmax(np.float64(found), axis=-1), mean, rtol=1e-5
        )


# ---- NaN in is NaN out


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("make", ALL_LOSSES)
def test_losses_do_not_hide_a_nan(pair, make, from_logits):
    good, bad = softmax(pair, axis=-1)
    bad[1, 2] = NAN
    loss = make(from_logits=from_logits, reduction="none")
    expected = np.arange(6) == 1
    for teacher, student in ((good, bad), (bad, good)):
        found = np.isnan(np.array(loss(teacher, student)))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("from_logits", [True, False])
def test_metrics_do_not_hide_a_nan(pair, from_logits):
    good, bad = softmax(pair, axis=-1)
    bad[1, 2] = NAN
    for make in DISTILLATION_METRICS:
        metric = make(from_logits=from_logits)
        metric.update_state(bad, good)
        assert np.isnan(float(metric.result())), make
    for make in LABEL_METRICS:
        metric = make(from_logits=from_logits)
        metric.update_state(np.zeros(6, "int32"), bad)
        assert np.isnan(float(metric.result())), make
    metric = metrics.TeacherAgreement(from_logits=from_logits)
    metric.update_state(good, bad)
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize("combine", ["arithmetic", "geometric"])
def test_ensembles_do_not_hide_a_nan(pair, combine):
    good, bad = softmax(pair, axis=-1)
    bad[1, 2] = NAN
    members = [lambda x, z=z: ops.convert_to_tensor(z) for z in (good, bad)]
    for from_logits in (True, False):
        ensemble = Ensemble(members, combine, from_logits=from_logits)
        found = np.isnan(np.array(ensemble(np.zeros((6, 4)))))
        np.testing.assert_array_equal(found.any(axis=-1), np.arange(6) == 1)


def test_probabilities_that_are_nan(tmp_path, pair):
    """They are not taken for uniform soft targets."""
    x = pair[0]
    model = without_softmax(lambda x: NAN * ops.softmax(x))
    logits = keras_distill.predict_logits(
        model, x, from_logits=False, verbose=0
    )
    assert np.isnan(logits).all()
    labels = np.zeros(6, "int32")
    report = keras_distill.compare(
        {"broken": model},
        (x, labels),
        from_logits=False,
        latency_batch_sizes=(),
        verbose=0,
    )
    assert report.models["broken"].errors == 6
    with pytest.raises(ValueError, match="not finite"):
        keras_distill.SoftTargetStore.create(
            tmp_path / "store",
            model,
            x,
            from_logits=False,
            teacher_id="broken",
            verbose=0,
        )
    for teacher in (
        model,
        [model, model],
        Ensemble([model], from_logits=False),
    ):
        distiller = keras_distill.Distiller(
            student=keras.Sequential(
                [keras.Input((4,)), keras.layers.Dense(4)]
            ),
            teacher=teacher,
        )
        distiller.compile(
            "sgd",
            distillation_loss=losses.SoftTargetCrossentropy(
                teacher_from_logits=False
            ),
        )
        with pytest.raises(ValueError, match="not finite"):
            distiller.fit(x, verbose=0)


# ---- Extreme temperatures, dtypes and weights


@pytest.mark.parametrize(
    "temperature", [1e-50, 1e-4, 1e5, 1e300, pytest.param(10**400, id="huge")]
)
def test_temperatures_that_float32_cannot_use(temperature):
    for make in (
        *SOFT_LOSSES,
        metrics.TeacherKLDivergence,
        metrics.SoftTargetEntropy,
        keras_distill.TemperatureSoftmax,
    ):
        with pytest.raises(ValueError, match=r"between 0\.001 and 10000"):
            make(temperature=temperature)


@pytest.mark.parametrize("temperature", [1e-3, 1e4])
def test_the_lowest_and_the_highest_temperature(pair, temperature):
    for make, expected in SOFT_LOSSES.items():
        loss = make(temperature, reduction="none")
        np.testing.assert_allclose(
            loss(*pair),
            expected(*pair, temperature),
            rtol=1e-4,
            # At 1e4, the divergence of close distributions has few digits left.
            atol=2e-3 if temperature > 1 else 1e-12,
        )


def test_half_precision_cannot_hold_the_square_of_a_temperature():
    for make in SOFT_LOSSES:
        with pytest.raises(ValueError, match=r"In float16.*temperature=300"):
            make(300, dtype="float16")
        loss = make(4.0, dtype="float16")
        with pytest.raises(ValueError, match="In float16"):
            loss.temperature = 61.0


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_losses_compute_in_floats(dtype):
    for make in ALL_LOSSES:
        with pytest.raises(ValueError, match="floating point dtype"):
            make(dtype=dtype)


def constant(*rows):
    return lambda x: ops.convert_to_tensor(np.float32(rows))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({0: 0.5, 1: 0.5}, "list of 2 numbers"),
        ({0.3, 0.7}, "list of 2 numbers"),
        (5, "list of 2 numbers"),
        (constant([0.5, 0.3, 0.2]), r"shape \(batch, 2\).*\(1, 3\)"),
        (constant(0.5, 0.5), r"shape \(batch, 2\).*\(2,\)"),
        (constant([0.5, 0.7]), r"sum to 1.*from 1.2 to 1.2"),
        (lambda x: ops.ones((1, 2), "int32"), "dtype int32"),
    ],
)
def test_weights_of_an_ensemble(weights, message):
    members = [constant([1.0, 2.0])] * 2
    with pytest.raises(ValueError, match=message):
        Ensemble(members, weights=weights)(np.zeros((1, 3)))


@pytest.mark.parametrize("make", LABEL_METRICS)
def test_labels_that_are_no_classes(pair, make):
    for labels, message in (
        ([0, 1, 2, 3, 4, 0], "from 0 to 3.*label of 4"),
        ([0, 1, 2, 3, -1, 0], "from 0 to 3.*label of -1"),
        ([0, 1, 2, 3, 1.4, 0], "whole numbers"),
        ([0, 1, 2], "one-hot"),
    ):
        metric = make()
        with pytest.raises(ValueError, match=message):
            metric.update_state(np.array(labels), pair[0])
        # Labels without a weight may be anything.
        if len(labels) == 6 and 1.4 not in labels:
            weight = [1, 1, 1, 1, 0, 1]
            metric.update_state(np.array(labels), pair[0], weight)
            assert np.isfinite(float(metric.result()))


@pytest.mark.compiled
@pytest.mark.backend("tensorflow", reason="only a graph cannot raise")
@pytest.mark.parametrize("make", LABEL_METRICS)
@pytest.mark.parametrize("wrong", [4, -1, 1.4])
def test_labels_that_are_no_classes_in_a_graph(pair, make, wrong):
    metric = make()
    labels = np.array([0, 1, 2, 3, wrong, 0])
    tf.function(metric.update_state)(*map(tf.constant, (labels, pair[0])))
    assert np.isnan(float(metric.result()))


def test_metrics_of_the_same_name(pair):
    distiller = keras_distill.Distiller(
        student=keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
        teacher=lambda x: x,
    )
    distiller.compile(
        "sgd",
        metrics=["accuracy"],
        distillation_metrics=[metrics.TeacherAgreement(name="accuracy")],
    )
    with pytest.raises(ValueError, match=r"different names.*\['accuracy'\]"):
        distiller.fit(pair[0], np.zeros((6, 1)), verbose=0)


def test_a_distiller_is_no_student():
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    distiller = keras_distill.Distiller(student=student)
    with pytest.raises(ValueError, match=r"`distiller\.student`"):
        keras_distill.Distiller(student=distiller)


@pytest.mark.parametrize("cache", [1, 0, None, np.ones(2)])
def test_cache_is_a_choice(pair, cache):
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    distiller = keras_distill.Distiller(student=student, teacher=lambda x: x)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="True or False"):
        distiller.fit(pair[0], cache=cache, verbose=0)


def mean_row(x):
    return ops.mean(x, axis=0, keepdims=True)


def mean_row_of_a_model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, mean_row(inputs))


@pytest.mark.compiled
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("cache", [False, "auto"])
@pytest.mark.parametrize(
    "make_teacher",
    [
        lambda: mean_row,
        lambda: lambda x: x[:1],
        lambda: lambda x: x[:-1],
        lambda: without_softmax(mean_row),
        lambda: without_softmax(lambda x: x[:1]),
        mean_row_of_a_model,
        lambda: [mean_row, lambda x: x],
        lambda: Ensemble([lambda x: x, lambda x: x[:1]], "geometric"),
    ],
)
def test_a_teacher_returns_a_row_for_each_input(
    pair, make_teacher, cache, jit_compile
):
    """Broadcasting would train each sample on the same soft targets."""
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("`torch.compile` takes minutes")
    distiller = keras_distill.Distiller(
        student=keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
        teacher=make_teacher(),
    )
    distiller.compile("sgd", jit_compile=jit_compile)
    with pytest.raises(ValueError, match="row for each row"):
        distiller.fit(pair[0], cache=cache, verbose=0)


@pytest.mark.parametrize("outputs", [None, 5.0, np.float32(3)])
def test_a_teacher_returns_tensors(pair, outputs):
    with pytest.raises(ValueError, match="logits of shape"):
        keras_distill.predict_logits(lambda x: outputs, pair[0], verbose=0)


@pytest.mark.parametrize(
    "class_weight",
    [{-1: 5.0, 0: 2.0}, {0.0: 2.0, 1.0: 3.0}, {0: 2, 7: 9.0}],
)
def test_class_weights_are_those_of_keras(pair, class_weight):
    """The key -1 is no other name of the last class."""
    y = np.array([0, 1, 2, 3, 0, 3])

    def make():
        inputs = keras.Input((4,))
        layer = keras.layers.Dense(4, kernel_initializer="identity")
        return keras.Model(inputs, layer(inputs))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student = make()
    student.compile(keras.optimizers.SGD(0.5), loss)
    distiller = keras_distill.Distiller(student=make(), teacher=lambda x: x)
    distiller.compile(keras.optimizers.SGD(0.5), loss, alpha=0.0)
    for model in (student, distiller):
        model.fit(pair[0], y, class_weight=class_weight, verbose=0)
    for first, second in zip(student.weights, distiller.weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("activation", ["softmax", keras.layers.Softmax()])
@pytest.mark.parametrize("feed", ["cached", "in_step", "soft_targets"])
def test_hard_loss_of_small_probabilities(pair, activation, feed, eager):
    """It is that of Keras, which uses the logits if the backend can."""
    x = 100 * pair[0]
    y = np.argmin(x, axis=-1)

    def make():
        inputs = keras.Input((4,))
        layer = keras.layers.Dense(
            4, kernel_initializer="identity", activation=activation
        )
        return keras.Model(inputs, layer(inputs))

    student = make()
    student.compile(
        keras.optimizers.SGD(0.5),
        "sparse_categorical_crossentropy",
        run_eagerly=eager,
    )
    history = student.fit(x, y, verbose=0).history
    distiller = keras_distill.Distiller(
        student=make(), teacher=None if feed == "soft_targets" else lambda x: x
    )
    distiller.compile(
        keras.optimizers.SGD(0.5),
        "sparse_categorical_crossentropy",
        alpha=0.0,
        run_eagerly=eager,
    )
    given = {"cache": feed == "cached"}
    if feed == "soft_targets":
        given["soft_targets"] = x
    ours = distiller.fit(x, y, verbose=0, **given).history
    np.testing.assert_allclose(ours["hard_loss"], history["loss"], rtol=1e-5)
    for first, second in zip(student.weights, distiller.weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.compiled
@pytest.mark.backend("jax", "tensorflow", reason="PyTorch steps are not traced")
def test_class_weights_need_no_new_compile(pair):
    """Each compiled step would keep memory."""
    traces = []

    def teacher(x):
        traces.append(x)
        return x

    distiller = keras_distill.Distiller(
        student=keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
        teacher=teacher,
    )
    distiller.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    counts = []
    for weight in range(4):
        distiller.fit(
            pair[0],
            np.zeros(6),
            class_weight={0: 1.0 + weight, 1: 2.0},
            verbose=0,
        )
        counts.append(len(traces))
    assert counts[0] == counts[-1]

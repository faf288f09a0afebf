"""Every distillation loss against float64 NumPy: values and gradients."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

import keras_distill
import reference
from backends import value_and_gradient
from keras_distill import losses
from keras_distill.backend.keras_compat import set_keras_mask

LOSSES = {
    "crossentropy": (
        losses.SoftTargetCrossentropy,
        reference.crossentropy,
        reference.soft_gradient,
    ),
    "kl_divergence": (
        losses.SoftTargetKLDivergence,
        reference.kl_divergence,
        reference.soft_gradient,
    ),
    "logit_matching": (
        losses.LogitMatching,
        lambda v, z, temperature: reference.logit_matching(v, z),
        lambda v, z, temperature: reference.logit_matching_gradient(v, z),
    ),
}
# Tolerances for one sample at temperature 1. The crossentropy needs the
# logarithm of a sum of at least 1, in float32. The divergence is about half the
# square of a difference with an error of about 1e-7.
ABSOLUTE_TOLERANCES = {
    "crossentropy": 5e-7,
    "kl_divergence": 5e-9,
    "logit_matching": 1e-9,
}
everyone = pytest.mark.parametrize("name", LOSSES)


def make(which, temperature, **kwargs):
    if which != "logit_matching":
        kwargs["temperature"] = temperature
    return LOSSES[which][0](**kwargs)


def of_student(loss, teacher, student):
    """Returns the value, and its gradient in the student's logits."""
    value, gradient = value_and_gradient(lambda z: loss(teacher, z), student)
    return value, np.zeros(student.shape) if gradient is None else gradient


def assert_matches(name, temperature, teacher, student):
    loss = make(name, temperature, reduction="sum")
    _, reference_value, reference_gradient = LOSSES[name]
    _, gradient = of_student(loss, teacher, student)
    np.testing.assert_allclose(
        make(name, temperature, reduction="none")(teacher, student),
        reference_value(teacher, student, temperature),
        rtol=4e-6,
        atol=ABSOLUTE_TOLERANCES[name] * temperature**2,
    )
    expected = reference_gradient(teacher, student, temperature)
    largest = (
        temperature if name != "logit_matching" else np.abs(expected).max()
    )
    np.testing.assert_allclose(
        gradient, expected, rtol=1e-6, atol=1e-6 * max(largest, 1e-30)
    )


@everyone
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5, 4.0, 20.0])
@pytest.mark.parametrize("size", [0.1, 3.0, 30.0, 1e4])
def test_values_and_gradients(name, temperature, size):
    rng = np.random.default_rng(3)
    teacher = (size * rng.normal(size=(16, 10))).astype("float32")
    student = (size * rng.normal(size=(16, 10))).astype("float32")
    assert_matches(name, temperature, teacher, student)


@everyone
@settings(max_examples=60, deadline=None)
@given(
    pair=arrays(
        "float32",
        (2, 3, 4),
        elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
    ),
    temperature=st.floats(0.25, 100.0),
)
def test_values_and_gradients_of_any_logits(name, pair, temperature):
    assert_matches(name, float(np.float32(temperature)), pair[0], pair[1])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_close_large_logits_keep_their_digits(temperature):
    # Logits of 1e4 that differ by one: a quotient rounded before the maximum
    # is subtracted would lose four digits.
    teacher = np.float32([[10000.0, 9999.0, 9998.5]])
    student = np.float32([[10000.0, 9998.0, 9999.5]])
    for name in ("crossentropy", "kl_divergence"):
        value, gradient = of_student(make(name, temperature), teacher, student)
        expected = LOSSES[name][1](teacher, student, temperature)
        np.testing.assert_allclose(value, expected[0], rtol=2e-6)
        np.testing.assert_allclose(
            gradient,
            reference.soft_gradient(teacher, student, temperature),
            rtol=1e-6,
            atol=1e-6 * temperature,
        )


def test_divergence_does_not_saturate():
    # The case that a clip at 1e-7 gets wrong: 16.1 where the truth is 60.
    teacher = np.float32([[60.0, 0.0]])
    student = np.float32([[0.0, 60.0]])
    value, gradient = of_student(
        losses.SoftTargetKLDivergence(1.0), teacher, student
    )
    np.testing.assert_allclose(value, 60.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0]], rtol=1e-6)


def test_kl_divergence_of_equal_logits_is_zero():
    """As the student comes close, the divergence keeps its digits."""
    rng = np.random.default_rng(2)
    teacher = rng.normal(size=(50, 10)).astype("float32")
    for distance in (1e-1, 1e-2, 1e-3):
        student = teacher + (distance * rng.normal(size=(50, 10))).astype(
            "float32"
        )
        loss = losses.SoftTargetKLDivergence(4.0, reduction="none")
        value = ops.convert_to_numpy(loss(teacher, student))
        assert np.min(value) > 0
        np.testing.assert_allclose(
            value,
            reference.kl_divergence(teacher, student, 4.0),
            rtol=3e-6 / distance,
        )


def test_divergence_of_the_documented_example():
    value = losses.SoftTargetKLDivergence(4.0)(
        np.float32([[5.0, 1.0, -3.0]]), np.float32([[0.0, 0.0, 0.0]])
    )
    np.testing.assert_allclose(
        float(value),
        reference.kl_divergence([[5.0, 1.0, -3.0]], [[0.0, 0.0, 0.0]], 4.0)[0],
        rtol=1e-6,
    )
    np.testing.assert_allclose(float(value), 4.26, atol=0.005)


@everyone
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_students(name, dtype):
    rng = np.random.default_rng(5)
    limit = 1e4
    teacher = ops.cast(rng.uniform(-limit, limit, (8, 6)), dtype)
    student = ops.cast(rng.uniform(-limit, limit, (8, 6)), dtype)
    value, gradient = of_student(
        make(name, 4.0, reduction="sum"), teacher, student
    )
    exact = [
        np.float64(ops.cast(each, "float32")) for each in (teacher, student)
    ]
    np.testing.assert_allclose(
        value, np.sum(LOSSES[name][1](*exact, 4.0)), rtol=3e-6
    )
    # The gradient is in the student's dtype, and rounded to it once.
    rounding = {"float16": 1e-3, "bfloat16": 8e-3}[dtype]
    np.testing.assert_allclose(
        gradient, LOSSES[name][2](*exact, 4.0), rtol=rounding, atol=1e-4
    )


@everyone
def test_gradient_tends_to_logit_matching(name):
    rng = np.random.default_rng(8)
    teacher = rng.normal(size=(4, 10)).astype("float32")
    student = rng.normal(size=(4, 10)).astype("float32")
    _, gradient = of_student(
        make(name, 1000.0, reduction="sum"), teacher, student
    )
    np.testing.assert_allclose(
        gradient,
        reference.logit_matching_gradient(teacher, student),
        atol=2e-3,
    )


@everyone
def test_no_gradient_reaches_the_teacher(name):
    teacher, student = np.random.default_rng(8).normal(size=(2, 4, 3))
    loss = make(name, 2.0)
    _, gradient = value_and_gradient(lambda v: loss(v, student), teacher)
    assert gradient is None


@everyone
def test_weights_mask_and_reduction_are_those_of_keras(name):
    rng = np.random.default_rng(9)
    teacher = rng.normal(size=(2, 3, 4)).astype("float32")
    student = rng.normal(size=(2, 3, 4)).astype("float32")
    per_position = LOSSES[name][1](teacher, student, 2.0)
    weight = np.float32([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]])

    unreduced = make(name, 2.0, reduction="none")
    np.testing.assert_allclose(
        unreduced(teacher, student), per_position, rtol=1e-5
    )
    np.testing.assert_allclose(
        make(name, 2.0)(teacher, student, weight),
        np.mean(per_position * weight),
        rtol=1e-5,
    )
    masked = ops.convert_to_tensor(student)
    mask = np.array([[True, True, False], [True, False, False]])
    set_keras_mask(masked, ops.convert_to_tensor(mask))
    np.testing.assert_allclose(
        make(name, 2.0)(teacher, masked), per_position[mask].mean(), rtol=1e-5
    )
    assert unreduced(teacher, student).shape == (2, 3)


@everyone
def test_class_axis(name):
    rng = np.random.default_rng(10)
    teacher = rng.normal(size=(2, 5, 3)).astype("float32")
    student = rng.normal(size=(2, 5, 3)).astype("float32")
    value = make(name, 2.0, axis=1, reduction="none")(teacher, student)
    expected = LOSSES[name][1](
        np.swapaxes(teacher, 1, 2), np.swapaxes(student, 1, 2), 2.0
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@everyone
@pytest.mark.parametrize(
    ("teacher_probabilities", "student_probabilities"),
    [(True, True), (True, False), (False, True)],
)
def test_probabilities(name, teacher_probabilities, student_probabilities):
    rng = np.random.default_rng(11)
    teacher = (3 * rng.normal(size=(6, 4))).astype("float32")
    student = (3 * rng.normal(size=(6, 4))).astype("float32")
    loss = make(
        name,
        3.0,
        from_logits=not student_probabilities,
        teacher_from_logits=not teacher_probabilities,
    )
    value = loss(
        ops.softmax(teacher) if teacher_probabilities else teacher,
        ops.softmax(student) if student_probabilities else student,
    )
    np.testing.assert_allclose(
        float(value),
        LOSSES[name][1](teacher, student, 3.0).mean(),
        rtol=2e-5,
    )


def test_probabilities_of_zero():
    teacher = np.float32([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    student = np.float32([[0.0, 0.5, 0.5], [0.5, 0.5, 0.0]])
    for loss in (
        losses.SoftTargetCrossentropy(4.0, from_logits=False, reduction="sum"),
        losses.SoftTargetKLDivergence(4.0, from_logits=False, reduction="sum"),
        losses.LogitMatching(from_logits=False, reduction="sum"),
    ):
        value, gradient = of_student(loss, teacher, student)
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(gradient))
    # A teacher's zero is one at every temperature: the second row agrees.
    value = losses.SoftTargetKLDivergence(
        20.0, from_logits=False, reduction="none"
    )(teacher[1:], np.float32([[0.5, 0.5, 1e-30]]))
    p = np.array([0.5, 0.5])
    q = np.array([0.5, 0.5, 1e-30]) ** (1 / 20)
    q = q[:2] / q.sum()
    np.testing.assert_allclose(
        float(value[0]), 400 * np.sum(p * np.log(p / q)), rtol=1e-4
    )


@everyone
def test_without_a_distiller(name, data, make_model):
    x, _ = data
    student, teacher = make_model(seed=1), make_model(seed=2)
    logits = teacher.predict(x, verbose=0)
    expected = LOSSES[name][1](logits, student.predict(x, verbose=0), 4.0)
    student.compile("sgd", loss=make(name, 4.0))
    history = student.fit(x, logits, batch_size=len(x), verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected.mean(), rtol=1e-5)


@everyone
def test_serialization(name):
    loss = make(
        name,
        2.5,
        from_logits=False,
        teacher_from_logits=True,
        axis=1,
        reduction="sum",
        name="soft",
    )
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert type(restored) is type(loss)
    assert restored.get_config() == loss.get_config()


@pytest.mark.backend("tensorflow", reason="only TensorFlow has a tf.function")
@pytest.mark.compiled
def test_setting_the_temperature_needs_no_retrace():
    import tensorflow as tf

    loss = losses.SoftTargetKLDivergence(1.0)
    teacher, student = np.float32([[2.0, 0.0]]), np.float32([[0.0, 1.0]])
    compiled = tf.function(lambda: loss(teacher, student))
    compiled()
    traces = compiled.experimental_get_tracing_count()
    for temperature in (1.0, 3.0):
        loss.temperature = temperature
        np.testing.assert_allclose(
            float(compiled()),
            reference.kl_divergence(teacher, student, temperature)[0],
            rtol=1e-6,
        )
    assert compiled.experimental_get_tracing_count() == traces
    assert loss.get_config()["temperature"] == 3.0


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("soft_target_crossentropy", losses.SoftTargetCrossentropy),
        ("SoftTargetKLDivergence", losses.SoftTargetKLDivergence),
        ("logit_matching", losses.LogitMatching),
    ],
)
def test_get_by_name(identifier, expected):
    assert type(losses.get(identifier)) is expected


def test_get_from_an_instance_and_a_config():
    loss = losses.SoftTargetCrossentropy(3.0)
    assert losses.get(loss) is loss
    config = keras.saving.serialize_keras_object(loss)
    assert losses.get(config).temperature == 3.0


def test_a_loss_of_ones_own(data, make_model):
    class Hinge(losses.DistillationLoss):
        def compare(self, teacher_logits, student_logits):
            gap = ops.abs(teacher_logits - student_logits)
            return ops.sum(ops.relu(gap - 1.0), axis=self.axis)

    x, _ = data
    student, teacher = make_model(seed=1), make_model(seed=2)
    gap = np.abs(teacher.predict(x, verbose=0) - student.predict(x, verbose=0))
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile("sgd", distillation_loss=Hinge())
    history = distiller.fit(x, batch_size=len(x), verbose=0).history
    np.testing.assert_allclose(
        history["loss"][0], np.maximum(gap - 1, 0).sum(-1).mean(), rtol=1e-5
    )

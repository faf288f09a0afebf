"""`top_k_targets`, and the losses on them, against float64 NumPy."""

import keras
import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

import keras_distill
import reference
from backends import value_and_gradient
from keras_distill import losses
from markers import fast_compiler

LOSSES = {
    "crossentropy": (
        losses.SoftTargetCrossentropy,
        reference.top_k_crossentropy,
    ),
    "kl_divergence": (
        losses.SoftTargetKLDivergence,
        reference.top_k_kl_divergence,
    ),
}
# Tolerances for one sample at temperature 1. The crossentropy needs the
# logarithm of a sum of at least 1. The divergence keeps the digits of a small x
# in log(1 + x).
ABSOLUTE_TOLERANCES = {"crossentropy": 5e-7, "kl_divergence": 5e-9}
all_losses = pytest.mark.parametrize("name", LOSSES)


def random_logits(size, shape=(16, 10), seed=3):
    rng = np.random.default_rng(seed)
    return (size * rng.normal(size=(2, *shape))).astype("float32")


def differentiate(loss, targets, student):
    """Returns the value, and its gradient in the student's logits."""
    return value_and_gradient(lambda z: loss(targets, z), student)


def assert_matches(name, k, temperature, teacher, student):
    make, expected_value = LOSSES[name]
    targets = keras_distill.top_k_targets(teacher, k, (temperature,))
    _, gradient = differentiate(
        make(temperature, reduction="sum"), targets, student
    )
    np.testing.assert_allclose(
        make(temperature, reduction="none")(targets, student),
        expected_value(teacher, student, temperature, k),
        rtol=4e-6,
        atol=ABSOLUTE_TOLERANCES[name] * temperature**2,
    )
    np.testing.assert_allclose(
        gradient,
        reference.top_k_gradient(teacher, student, temperature, k),
        # The difference of two distant logits has fewer digits.
        rtol=2e-6 + 1.2e-7 * np.ptp(student) / temperature,
        atol=2e-6 * temperature,
    )


@all_losses
@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize(
    ("temperature", "size"),
    [(0.5, 3.0), (1.0, 30.0), (1.0, 1e4), (4.0, 3.0), (4.0, 1e4), (20.0, 0.1)],
)
def test_values_and_gradients(name, k, temperature, size):
    teacher, student = random_logits(size)
    assert_matches(name, k, temperature, teacher, student)


@all_losses
@settings(max_examples=60, deadline=None)
@given(
    pair=arrays(
        "float32",
        (2, 3, 5),
        elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
    ),
    k=st.integers(1, 4),
    temperature=st.floats(0.25, 100.0),
)
# The two distributions are close, and the divergence is small.
@example(pair=np.zeros((2, 3, 5), "float32"), k=2, temperature=14.25)
def test_values_and_gradients_of_any_logits(name, pair, k, temperature):
    # With equal logits, the choice of the k classes is not unique.
    distinct = pair[0] + np.linspace(0, 0.5, 5, dtype="float32")
    hypothesis_temperature = float(np.float32(temperature))
    if any(len(set(row)) < 5 for row in distinct):
        return
    assert_matches(name, k, hypothesis_temperature, distinct, pair[1])


def test_gradient_is_the_closed_form():
    """T (q_i - p_i) in the top k, T q_j (1 - p_rest / q_rest) elsewhere."""
    teacher, student = random_logits(3.0)
    temperature, k = 4.0, 3
    p = np.exp(reference.log_softmax(np.float64(teacher) / temperature, -1))
    q = np.exp(reference.log_softmax(np.float64(student) / temperature, -1))
    top = reference.is_top(teacher, k)
    p_rest = np.where(top, 0, p).sum(-1, keepdims=True)
    q_rest = np.where(top, 0, q).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        reference.top_k_gradient(teacher, student, temperature, k),
        temperature * np.where(top, q - p, q * (1 - p_rest / q_rest)),
        rtol=1e-9,
    )


@all_losses
def test_lower_bound_is_exact_for_equal_distributions_in_the_rest(name):
    teacher, student = random_logits(3.0)
    make, _ = LOSSES[name]
    loss = make(2.0, reduction="none")
    targets = keras_distill.top_k_targets(teacher, 4, (2.0,))
    if name == "kl_divergence":
        # The crossentropy also omits the entropy within the rest.
        gap = loss(teacher, student) - loss(targets, student)
        assert ops.convert_to_numpy(gap).min() > -1e-5
        np.testing.assert_allclose(loss(targets, teacher), 0, atol=1e-5)
    top = reference.is_top(teacher, 4)
    student = np.where(top, student, teacher + 0.7)
    dense = np.float64(loss(teacher, student))
    within = reference.entropy_within_rest(teacher, 2.0, 4)
    if name == "kl_divergence":
        within = 0.0
    np.testing.assert_allclose(loss(targets, student), dense - within, 1e-5)


def test_half_precision_keeps_the_sum_of_probabilities():
    teacher, _ = random_logits(20.0, (50, 30))
    targets = keras_distill.top_k_targets(teacher, 5, (1.0, 4.0), "float16")
    logits = np.float64(targets.logits)
    np.testing.assert_array_equal(logits, np.float64(np.float16(logits)))
    for temperature in (1.0, 4.0):
        log_p = targets.log_probabilities(temperature, -1)
        np.testing.assert_allclose(
            np.exp(np.float64(log_p)).sum(-1), 1.0, rtol=1e-6
        )


def test_fields_of_the_targets():
    teacher, _ = random_logits(5.0, (6, 3, 40))
    targets = keras_distill.top_k_targets(teacher, 7)
    order = np.argsort(-teacher, -1)[..., :7]
    np.testing.assert_array_equal(targets.classes, order)
    np.testing.assert_allclose(
        targets.logits,
        np.take_along_axis(teacher, order, -1) - teacher.max(-1, keepdims=True),
    )
    np.testing.assert_array_equal(
        targets.temperatures, np.broadcast_to([1.0, 4.0], (6, 3, 2))
    )
    np.testing.assert_array_equal(targets.num_classes, np.full((6, 3), 40))
    for column, temperature in enumerate((1.0, 4.0)):
        shifted = np.float64(teacher) - teacher.max(-1, keepdims=True)
        others = np.where(
            reference.is_top(teacher, 7), 0.0, np.exp(shifted / temperature)
        )
        np.testing.assert_allclose(
            targets.rest[..., column], np.log(others.sum(-1)), atol=3e-6
        )


def test_several_positions_masks_and_weights():
    teacher, student = random_logits(3.0, (4, 6, 9))
    targets = keras_distill.top_k_targets(teacher, 3, (2.0,))
    weights = np.random.default_rng(1).uniform(0, 2, (4, 6))
    loss = losses.SoftTargetKLDivergence(2.0)
    expected = reference.top_k_kl_divergence(teacher, student, 2.0, 3)
    np.testing.assert_allclose(
        loss(targets, student, sample_weight=weights),
        np.mean(weights * expected),
        rtol=1e-5,
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_student_in_half_precision(dtype):
    teacher, student = random_logits(3.0)
    student = ops.cast(student, dtype)
    targets = keras_distill.top_k_targets(teacher, 3, (4.0,))
    value, gradient = differentiate(
        losses.SoftTargetCrossentropy(4.0), targets, student
    )
    exact = ops.convert_to_numpy(ops.cast(student, "float32"))
    expected = reference.top_k_crossentropy(teacher, exact, 4.0, 3)
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        gradient,
        reference.top_k_gradient(teacher, exact, 4.0, 3) / len(exact),
        atol=1e-2,
    )


def test_large_class_ids_are_exact():
    """The dtype of the loss has to represent class ids exactly."""
    num_classes = 70_001
    teacher = np.zeros((1, num_classes), "float32")
    teacher[0, [70_000, 69_999]] = 12.0, 11.0
    student = np.zeros((1, num_classes), "float32")
    _, gradient = differentiate(
        losses.SoftTargetCrossentropy(1.0),
        keras_distill.top_k_targets(teacher, 2, (1.0,)),
        student,
    )
    assert list(np.argsort(gradient[0])[:2]) == [70_000, 69_999]


def test_training_equals_plain_gradient_descent(data, make_model):
    """`fit` on arrays with sample weights."""
    x, _ = data
    teacher = make_model(seed=5).predict(x, verbose=0)
    student = make_model(seed=1)
    kernel, bias = map(np.float64, student.get_weights())
    weights = np.linspace(0.5, 2.0, len(x))
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(
        keras.optimizers.SGD(0.1),
        distillation_loss=losses.SoftTargetCrossentropy(4.0),
    )
    history = distiller.fit(
        x,
        soft_targets=keras_distill.top_k_targets(teacher, 2),
        sample_weight=weights,
        batch_size=11,
        epochs=3,
        shuffle=False,
        verbose=0,
    ).history
    for epoch in range(3):
        values = []
        for rows in (slice(0, 11), slice(11, 22)):
            z = np.float64(x[rows]) @ kernel + bias
            value = reference.top_k_crossentropy(teacher[rows], z, 4.0, 2)
            values.append(np.mean(weights[rows] * value))
            gradient = reference.top_k_gradient(teacher[rows], z, 4.0, 2)
            gradient *= weights[rows, None] / 11
            kernel -= 0.1 * x[rows].T @ gradient
            bias -= 0.1 * gradient.sum(0)
        np.testing.assert_allclose(
            history["soft_loss"][epoch], np.mean(values), rtol=1e-5
        )
    np.testing.assert_allclose(student.get_weights()[0], kernel, rtol=1e-4)


@pytest.mark.parametrize(
    "jit_compile",
    [False, pytest.param(True, marks=[fast_compiler, pytest.mark.compiled])],
)
def test_another_temperature_raises_an_error(data, make_model, jit_compile):
    x, _ = data
    targets = keras_distill.top_k_targets(
        make_model(seed=5).predict(x, verbose=0), 2, (1.0, 4.0)
    )
    student = make_model()
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("sgd", jit_compile=jit_compile)
    distiller.fit(x, soft_targets=targets, verbose=0)
    before = student.get_weights()
    distiller.distillation_loss.temperature = 2.0
    with pytest.raises(ValueError, match="temperature of the distillation"):
        distiller.fit(x, soft_targets=targets, verbose=0)
    np.testing.assert_array_equal(student.get_weights()[0], before[0])
    distiller.distillation_loss.temperature = 1.0
    distiller.fit(x, soft_targets=targets, verbose=0)


def logits_with_a_rest(rest, classes=40, k=3):
    """Returns logits with a probability of `rest` outside of the top k."""
    rng = np.random.default_rng(5)
    p = np.concatenate(
        [
            (1 - rest) * np.array([0.6, 0.3, 0.1]),
            rest * rng.dirichlet(np.full(classes - k, 10.0)),
        ]
    )
    return np.float32(np.log(p))[np.newaxis]


@all_losses
@pytest.mark.parametrize("rest", 10.0 ** -np.arange(1, 13))
def test_a_small_rest_keeps_its_digits(name, rest):
    """In the targets, and in the value and gradient of the loss."""
    teacher = logits_with_a_rest(rest)
    student = random_logits(6.0, (1, 40))[1]
    targets = keras_distill.top_k_targets(teacher, 3, (1.0,))
    p = np.exp(reference.log_softmax(np.float64(teacher), -1))
    expected = np.where(reference.is_top(teacher, 3), 0, p).sum(-1)
    found = np.float64(targets.log_probabilities(1.0, -1))[:, -1]
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)
    make, expected_value = LOSSES[name]
    loss = make(1.0, reduction="sum")
    value, _ = differentiate(loss, targets, student)
    np.testing.assert_allclose(
        value, expected_value(teacher, student, 1.0, 3).sum(), rtol=1e-5
    )
    # The gradient depends on the rest of a student with a small rest.
    student = teacher.copy()
    student[:, 3:] -= np.log(2.0, dtype="float32")
    _, gradient = differentiate(loss, targets, student)
    np.testing.assert_allclose(
        gradient[:, 3:],
        reference.top_k_gradient(teacher, student, 1.0, 3)[:, 3:],
        rtol=1e-3,
    )

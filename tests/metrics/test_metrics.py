"""The metrics, against float64 NumPy."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import log_softmax
from scipy.special import softmax

import keras_distill
import reference
from keras_distill import metrics
from keras_distill.backend.keras_compat import set_keras_mask
from markers import float64

SAMPLES, CLASSES = 40, 7


@pytest.fixture
def logits():
    """Returns logits of teacher and student, and sample weights."""
    rng = np.random.default_rng(3)
    teacher = rng.normal(scale=3, size=(SAMPLES, CLASSES)).astype("float32")
    student = teacher + rng.normal(size=teacher.shape).astype("float32")
    return teacher, student, rng.uniform(0, 2, SAMPLES).astype("float32")


@pytest.fixture
def labels():
    return np.random.default_rng(4).integers(0, CLASSES, SAMPLES)


def in_batches(metric, first, second, weight=None, batch=16):
    """Returns the result after several batches. The last one is smaller."""
    metric.reset_state()
    for start in range(0, len(first), batch):
        rows = slice(start, start + batch)
        metric.update_state(
            first[rows],
            second[rows],
            None if weight is None else weight[rows],
        )
    return float(metric.result())


def agreement(teacher, student, k):
    best = np.argsort(-student, -1, kind="stable")[..., :k]
    return np.any(best == teacher.argmax(-1)[..., None], -1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, CLASSES])
def test_teacher_agreement(logits, k, weighted):
    teacher, student, weight = logits
    expected = agreement(teacher, student, k)
    weight = weight if weighted else None
    assert in_batches(
        metrics.TeacherAgreement(k), teacher, student, weight
    ) == pytest.approx(np.average(expected, weights=weight), rel=1e-6)


def test_agreement_of_equal_logits_equals_argmax():
    metric = metrics.TeacherAgreement()
    metric.update_state([[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    assert metric.result() == 0.5


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_teacher_kl_divergence(logits, temperature, weighted):
    teacher, student, weight = logits
    expected = (
        reference.kl_divergence(teacher, student, temperature) / temperature**2
    )
    weight = weight if weighted else None
    assert in_batches(
        metrics.TeacherKLDivergence(temperature), teacher, student, weight
    ) == pytest.approx(np.average(expected, weights=weight), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_soft_target_entropy(logits, temperature, weighted):
    teacher, student, weight = logits
    weight = weight if weighted else None
    assert in_batches(
        metrics.SoftTargetEntropy(temperature), teacher, student, weight
    ) == pytest.approx(
        np.average(reference.entropy(teacher, temperature), weights=weight),
        rel=1e-5,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
def test_brier_score(logits, labels, weighted, one_hot):
    _, student, weight = logits
    weight = weight if weighted else None
    given_labels = np.eye(CLASSES)[labels] if one_hot else labels[:, None]
    assert in_batches(
        metrics.BrierScore(), given_labels, student, weight
    ) == pytest.approx(
        np.average(reference.brier(labels, student), weights=weight), rel=1e-5
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_expected_calibration_error(logits, labels, bins, weighted):
    _, student, weight = logits
    weight = weight if weighted else None
    assert in_batches(
        metrics.ExpectedCalibrationError(bins), labels, student, weight
    ) == pytest.approx(
        reference.calibration_error(labels, student, bins, weight), rel=1e-4
    )


def test_calibration_error_of_a_calibrated_and_an_overconfident_model():
    calibrated = np.log(np.array([[0.75, 0.25]] * 4, "float32"))
    metric = metrics.ExpectedCalibrationError()
    metric.update_state([0, 0, 0, 1], calibrated)
    assert float(metric.result()) == pytest.approx(0.0, abs=1e-6)
    metric.reset_state()
    metric.update_state([0, 1], [[1e4, -1e4]] * 2)
    assert float(metric.result()) == pytest.approx(0.5)


def test_calibration_error_without_samples_is_zero():
    assert float(metrics.ExpectedCalibrationError().result()) == 0.0


@settings(deadline=None, max_examples=60)
@given(
    values=hnp.arrays(
        "float32",
        (2, 6, 4),
        elements=st.floats(-1e4, 1e4, width=32),
    ),
    temperature=st.floats(0.5, 50),
)
def test_bounds_hold_at_extreme_logits(values, temperature):
    teacher, student = values
    names = {
        "agreement": metrics.TeacherAgreement(),
        "divergence": metrics.TeacherKLDivergence(temperature),
        "entropy": metrics.SoftTargetEntropy(temperature),
    }
    for metric in names.values():
        metric.update_state(teacher, student)
    found = {name: float(metric.result()) for name, metric in names.items()}
    assert 0 <= found["agreement"] <= 1
    assert found["divergence"] >= -1e-6
    assert -1e-6 <= found["entropy"] <= np.log(4) + 1e-5
    np.testing.assert_allclose(
        found["entropy"],
        reference.entropy(teacher, temperature).mean(),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        found["divergence"],
        (
            reference.kl_divergence(teacher, student, temperature)
            / temperature**2
        ).mean(),
        rtol=1e-4,
        atol=1e-5,
    )
    labels = np.arange(6) % 4
    brier, calibration = (
        metrics.BrierScore(),
        (metrics.ExpectedCalibrationError(10)),
    )
    brier.update_state(labels, student)
    calibration.update_state(labels, student)
    np.testing.assert_allclose(
        float(brier.result()),
        reference.brier(labels, student).mean(),
        rtol=1e-4,
        atol=1e-5,
    )
    assert 0 <= float(calibration.result()) <= 1 + 1e-6


@pytest.mark.parametrize(
    "metric",
    [
        metrics.TeacherAgreement(k=2),
        metrics.TeacherKLDivergence(3.0),
        metrics.SoftTargetEntropy(3.0),
    ],
    ids=lambda metric: metric.name,
)
def test_positions_masks_and_weights(metric):
    """In sequences, every position that is not masked counts."""
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(4, 3, CLASSES)).astype("float32")
    student = rng.normal(size=(4, 3, CLASSES)).astype("float32")
    mask = rng.random((4, 3)) < 0.6
    weight = rng.uniform(1, 2, 4).astype("float32")
    per_position = {
        "teacher_agreement_top_2": agreement(teacher, student, 2),
        "teacher_kl_divergence": reference.kl_divergence(teacher, student, 3.0)
        / 9,
        "soft_target_entropy": reference.entropy(teacher, 3.0),
    }[metric.name]
    for used_mask in (None, mask):
        for used_weight in (None, weight, weight[:, None] * np.ones((4, 3))):
            outputs = keras.ops.convert_to_tensor(student)
            weights = np.ones((4, 3))
            if used_mask is not None:
                set_keras_mask(outputs, keras.ops.convert_to_tensor(used_mask))
                weights = weights * used_mask
            if used_weight is not None:
                weights = weights * np.reshape(used_weight, (4, -1))
            metric.reset_state()
            metric.update_state(teacher, outputs, used_weight)
            assert float(metric.result()) == pytest.approx(
                np.average(per_position, weights=weights), rel=1e-5
            )


def test_probabilities(logits, labels):
    teacher, student, _ = logits
    p, q = softmax(teacher, -1), softmax(student, -1)
    for make, first, second in (
        (metrics.TeacherKLDivergence, teacher, p),
        (metrics.SoftTargetEntropy, teacher, p),
        (metrics.BrierScore, labels, labels),
        (metrics.ExpectedCalibrationError, labels, labels),
    ):
        assert in_batches(make(from_logits=False), second, q) == pytest.approx(
            in_batches(make(), first, student), rel=1e-4
        )


def test_a_teacher_that_is_certain():
    """A probability of 0 stays 0 at every temperature."""
    metric = metrics.SoftTargetEntropy(20.0, from_logits=False)
    metric.update_state([[1.0, 0.0, 0.0]], [[0.2, 0.3, 0.5]])
    assert float(metric.result()) == pytest.approx(0.0, abs=1e-6)


def test_top_k_targets(logits):
    teacher, student, _ = logits
    targets = keras_distill.top_k_targets(teacher, 3, temperatures=(2.0,))
    metric = metrics.TeacherAgreement()
    metric.update_state(targets, student)
    assert float(metric.result()) == pytest.approx(
        agreement(teacher, student, 1).mean()
    )
    metric = metrics.TeacherKLDivergence(2.0)
    metric.update_state(targets, student)
    assert float(metric.result()) == pytest.approx(
        reference.top_k_kl_divergence(teacher, student, 2.0, 3).mean() / 4,
        rel=1e-4,
    )
    metric = metrics.SoftTargetEntropy(2.0)
    metric.update_state(targets, student)
    left_out = reference.entropy_within_rest(teacher, 2.0, 3) / 4
    assert float(metric.result()) == pytest.approx(
        (reference.entropy(teacher, 2.0) - left_out).mean(), rel=1e-4
    )


@pytest.mark.parametrize(
    "make", [metrics.TeacherKLDivergence, metrics.SoftTargetEntropy]
)
def test_targets_at_another_temperature_raise_an_error(logits, make):
    teacher, student, _ = logits
    ensemble = keras_distill.EnsembleTargets(
        keras.ops.convert_to_tensor(teacher), np.full((1, 1), 4.0, "float32")
    )
    for targets in (keras_distill.top_k_targets(teacher, 3), ensemble):
        make(4.0).update_state(targets, student)
        with pytest.raises(Exception, match="temperature of the distillation"):
            make(3.0).update_state(targets, student)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_cast_up(logits, dtype):
    teacher, student, _ = logits
    rounded = [
        keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)
        for array in (teacher, student)
    ]
    exact = [np.array(keras.ops.cast(array, "float64")) for array in rounded]
    metric = metrics.TeacherKLDivergence()
    metric.update_state(*rounded)
    assert float(metric.result()) == pytest.approx(
        reference.kl_divergence(*exact, 1.0).mean(), rel=1e-5
    )


@pytest.mark.parametrize(
    "metric",
    [
        metrics.TeacherAgreement(k=3),
        metrics.TeacherKLDivergence(4.0, teacher_from_logits=False),
        metrics.SoftTargetEntropy(2.0, axis=1),
        metrics.BrierScore(from_logits=False),
        metrics.ExpectedCalibrationError(num_bins=7),
    ],
    ids=lambda metric: metric.name,
)
def test_config(metric):
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_get():
    metric = metrics.TeacherAgreement()
    assert metrics.get(metric) is metric
    assert isinstance(
        metrics.get("TeacherKLDivergence"), metrics.TeacherKLDivergence
    )
    assert metrics.get("teacher_agreement").name == "teacher_agreement"
    with pytest.raises(ValueError, match="Did you mean 'teacher_agreement'"):
        metrics.get("teacher_agrement")
    with pytest.raises(ValueError, match="the labels as `metrics`"):
        metrics.get(keras.metrics.Accuracy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.TeacherAgreement(0), "Received: k=0"),
        (lambda: metrics.TeacherKLDivergence(0), "temperature=0"),
        (lambda: metrics.SoftTargetEntropy(-1), "temperature=-1"),
        (lambda: metrics.ExpectedCalibrationError(0), "num_bins=0"),
        (lambda: metrics.TeacherAgreement(from_logits=0), "from_logits=0"),
        (
            lambda: metrics.SoftTargetEntropy(teacher_from_logits="no"),
            "teacher_from_logits='no'",
        ),
        (lambda: metrics.BrierScore(from_logits=1), "from_logits=1"),
        (
            lambda: metrics.ExpectedCalibrationError(from_logits=None),
            "from_logits=None",
        ),
        (
            lambda: metrics.TeacherAgreement(4).update_state(
                np.zeros((2, 3)), np.zeros((2, 3))
            ),
            "Received: k=4",
        ),
        (
            lambda: metrics.TeacherAgreement().update_state(
                np.zeros((2, 3, 3)), np.zeros((2, 3))
            ),
            "same rank",
        ),
        (
            lambda: metrics.BrierScore().update_state(
                np.zeros((2, 4)), np.zeros((2, 3))
            ),
            "class ids, or one-hot",
        ),
        (
            lambda: metrics.BrierScore().update_state([0, 1], np.zeros((2, 1))),
            "at least two classes",
        ),
        (
            lambda: metrics.BrierScore().update_state(
                [0, 1], np.zeros((2, 3)), np.zeros((2, 3, 4))
            ),
            "one number for each sample",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_entries_with_zero_weight_may_be_nan(logits, labels):
    teacher, student, _ = logits
    changed = student.copy()
    changed[3] = np.nan
    weight = np.ones(SAMPLES, "float32")
    weight[3] = 0
    rest = np.arange(SAMPLES) != 3
    for metric, first in (
        (metrics.ExpectedCalibrationError(), labels),
        (metrics.BrierScore(), labels),
        (metrics.TeacherKLDivergence(), teacher),
        (metrics.TeacherAgreement(), teacher),
    ):
        expected = in_batches(metric, first[rest], student[rest])
        found = in_batches(metric, first, changed, weight)
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "int32"])
def test_values_that_are_not_floats(dtype):
    """Weights of 0.25 are not rounded to the dtype of the values."""

    class Same(metrics.DistillationMetric):
        def measure(self, teacher_logits, student_logits):
            same = teacher_logits[..., 0] == student_logits[..., 0]
            return keras.ops.cast(same, dtype)

    metric = Same()
    teacher, student = [[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [3.0, 0.0]]
    metric.update_state(teacher, student, [0.25, 0.75])
    assert float(metric.result()) == 0.25


@float64
def test_dtype_and_fixed_temperature():
    metric = metrics.ExpectedCalibrationError(dtype="float64")
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float64"
    with pytest.raises(AttributeError):
        metrics.TeacherKLDivergence(2.0).temperature = 4.0


@pytest.mark.parametrize("training", [True, False])
def test_calibration_at_the_serving_temperature(data, make_model, training):
    """Hard metrics use the probabilities that an exported student returns."""
    x, y = data
    rng = np.random.default_rng(3)
    student = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5),
            keras_distill.TemperatureSoftmax(8.0, serving_temperature=3.0),
        ]
    )
    kernel = 4 * rng.normal(size=(6, 5)).astype("float32")
    student.set_weights([kernel, np.zeros(5, "float32")])
    distiller = keras_distill.Distiller(
        student=student, teacher=make_model(seed=5)
    )
    distiller.compile(
        keras.optimizers.SGD(0.0),
        metrics=[
            metrics.ExpectedCalibrationError(from_logits=False),
            metrics.BrierScore(from_logits=False),
        ],
    )
    if training:
        logs = distiller.fit(x, y, verbose=0).history
        logs = {name: values[0] for name, values in logs.items()}
    else:
        logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    p = softmax(np.float64(x) @ np.float64(kernel) / 3, axis=-1)
    brier = np.mean(np.sum((p - np.eye(5)[y]) ** 2, axis=-1))
    assert logs["brier_score"] == pytest.approx(brier, rel=1e-5)
    report = keras_distill.compare(
        {"teacher": make_model(seed=5), "student": student},
        (x, y),
        teacher="teacher",
        temperature=2.0,
        latency_batch_sizes=(),
        verbose=0,
    ).models["student"]
    assert report.expected_calibration_error == pytest.approx(
        logs["expected_calibration_error"], rel=1e-5
    )
    # The divergence uses the logits at the temperature of `compare`.
    v = np.float64(make_model(seed=5).predict(x, verbose=0)) / 2
    z = np.float64(x) @ np.float64(kernel) / 2
    divergence = np.sum(
        softmax(v, -1) * (log_softmax(v, -1) - log_softmax(z, -1)), axis=-1
    )
    assert report.teacher_kl_divergence == pytest.approx(
        divergence.mean(), rel=1e-5
    )

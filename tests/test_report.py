"""`compare`: every figure against one computed by hand."""

import json

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from scipy import stats

import keras_distill

SAMPLES = 60


@pytest.fixture
def test_set():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 6)).astype("float32")
    return x, rng.integers(0, 5, SAMPLES)


@pytest.fixture
def models(make_model):
    return {
        "Teacher": make_model(seed=1),
        "from labels": make_model("softmax", seed=2),
        "distilled": make_model(seed=3),
    }


def logits_by_hand(model, x):
    kernel, bias = (np.float64(each) for each in model.get_weights())
    return x @ kernel + bias


@pytest.mark.parametrize("form", ["arrays", "dataset", "one-hot"])
def test_figures(models, test_set, form):
    x, y = test_set
    data = {
        "arrays": (x, y),
        "dataset": tf.data.Dataset.from_tensor_slices((x, y))
        .shuffle(SAMPLES, seed=1)
        .batch(7),
        "one-hot": (x, np.eye(5)[y]),
    }[form]
    report = keras_distill.compare(
        models, data, latency_batch_sizes=(), verbose=0
    )
    teacher_logits = logits_by_hand(models["Teacher"], x)
    assert report.teacher == "Teacher"
    assert report.examples == SAMPLES
    for name, model in models.items():
        z = logits_by_hand(model, x)
        found = report.models[name]
        right = z.argmax(-1) == y
        assert found.parameters == 35
        assert found.bytes == 140
        assert found.multiply_adds == 30
        assert found.errors == np.sum(~right)
        assert found.accuracy == pytest.approx(right.mean())
        n, p, quantile = SAMPLES, right.mean(), stats.norm.ppf(0.975)
        center = (p + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
        half = (quantile / (1 + quantile**2 / n)) * np.sqrt(
            p * (1 - p) / n + quantile**2 / (4 * n**2)
        )
        assert found.accuracy_interval == pytest.approx(
            (center - half, center + half)
        )
        assert found.expected_calibration_error == pytest.approx(
            reference.calibration_error(y, z, 15), rel=1e-3
        )
        if name == "Teacher":
            assert found.teacher_agreement is None
            assert found.teacher_kl_divergence is None
        else:
            assert found.teacher_agreement == pytest.approx(
                np.mean(z.argmax(-1) == teacher_logits.argmax(-1))
            )
            assert found.teacher_kl_divergence == pytest.approx(
                reference.kl_divergence(teacher_logits, z, 1.0).mean(),
                rel=1e-4,
            )


def test_mcnemar(models, test_set):
    x, y = test_set
    report = keras_distill.compare(
        models, test_set, latency_batch_sizes=(), verbose=0
    )
    first, second = (
        logits_by_hand(models[name], x).argmax(-1) == y
        for name in ("distilled", "from labels")
    )
    only_first, only_second = (
        np.sum(first & ~second),
        np.sum(second & ~first),
    )
    smaller, n = min(only_first, only_second), only_first + only_second
    test = report.mcnemar("distilled", "from labels")
    assert (test.only_first, test.only_second) == (only_first, only_second)
    assert test.p_value == pytest.approx(
        min(1.0, 2 * stats.binom.cdf(smaller, n, 0.5))
    )
    same = report.mcnemar("Teacher", "Teacher")
    assert same == (0, 0, 1.0)
    with pytest.raises(ValueError, match="Received: 'nobody'"):
        report.mcnemar("nobody", "Teacher")


def test_positions_of_sequences_count():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(5)])
    x = np.random.default_rng(0).normal(size=(6, 4, 3)).astype("float32")
    y = np.random.default_rng(1).integers(0, 5, (6, 4))
    report = keras_distill.compare(
        {"model": model}, (x, y), latency_batch_sizes=(), verbose=0
    )
    expected = np.sum(model.predict(x, verbose=0).argmax(-1) != y)
    assert report.examples == 24
    assert report.models["model"].errors == expected


def test_what_is_no_keras_model(make_model, test_set):
    model = make_model(seed=1)
    ensemble = keras_distill.Ensemble([model, make_model(seed=2)])
    report = keras_distill.compare(
        {"a function": lambda x: model(x), "an ensemble": ensemble},
        test_set,
        latency_batch_sizes=(1,),
        verbose=0,
    )
    assert report.teacher is None
    assert report.models["a function"].parameters is None
    assert report.models["a function"].multiply_adds == 30
    assert report.models["an ensemble"].parameters == 70
    assert report.models["an ensemble"].multiply_adds == 60
    assert "as the teacher" not in str(report)


def test_forms(models, test_set, capsys):
    report = keras_distill.compare(models, test_set, verbose=0)
    print(report)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert len(lines) == 2 + len(models)
    assert f"errors of {SAMPLES}" in lines[0]
    assert "ms for 128" in lines[0]
    for line, (name, model) in zip(
        lines[2:], report.models.items(), strict=True
    ):
        assert line.startswith(name)
        assert f" {model.errors} " in line
        assert model.latency.keys() == {1, 128}
        assert model.latency[1] > 0
    markdown = report.to_markdown().splitlines()
    assert len(markdown) == 2 + len(models)
    assert {line.count("|") for line in markdown} == {12}
    frame = report.to_dataframe()
    assert list(frame.index) == list(models)
    for name, model in report.models.items():
        assert frame.loc[name, "errors"] == model.errors
        assert frame.loc[name, "accuracy_lower"] == model.accuracy_interval[0]
        assert frame.loc[name, "latency_128"] == model.latency[128]
    again = json.loads(json.dumps(report.to_dict()))
    assert again["distilled"]["errors"] == report.models["distilled"].errors
    assert again["distilled"]["latency"]["1"] > 0


def test_progress_is_shown(models, test_set, capsys):
    keras_distill.compare(
        models, test_set, latency_batch_sizes=(), batch_size=20, verbose=1
    )
    assert "3/3" in capsys.readouterr().out


def several_outputs():
    inputs = keras.Input((6,))
    dense = keras.layers.Dense(5)
    return keras.Model(inputs, [dense(inputs), dense(inputs)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "dict from names to models"),
        ({"models": {"a": 3}}, "Received: 'a': 3"),
        ({"models": {"a": several_outputs()}}, "one output"),
        ({"teacher": "b"}, "Received: teacher='b'"),
        ({"temperature": 0}, "Received: temperature=0"),
        ({"num_bins": 0}, "Received: num_bins=0"),
        ({"latency_batch_sizes": (0,)}, "Received: latency_batch_sizes=0"),
        ({"latency_batch_sizes": 1}, "latency_batch_sizes=1"),
        ({"data": np.zeros((3, 6), "float32")}, "inputs only"),
        (
            {
                "data": (
                    np.zeros((3, 6), "float32"),
                    np.zeros(3, int),
                    np.ones(3),
                )
            },
            "sample weights",
        ),
        (
            {"data": (np.zeros((0, 6), "float32"), np.zeros(0, int))},
            "at least one example",
        ),
    ],
    ids=str,
)
def test_bad_input(make_model, test_set, change, message):
    arguments = {"models": {"a": make_model()}, "data": test_set, **change}
    with pytest.raises(ValueError, match=message):
        keras_distill.compare(**arguments, verbose=0)


def test_what_does_not_fit_together(make_model, test_set):
    x, y = test_set
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(7)])
    with pytest.raises(ValueError, match="same number of classes"):
        keras_distill.compare(
            {"a": make_model(), "b": other}, test_set, verbose=0
        )
    with pytest.raises(ValueError, match=r"from 0 to 4\. Received: a label"):
        keras_distill.compare({"a": make_model()}, (x, y + 5), verbose=0)


def test_a_softmax_that_can_not_be_seen(make_model, test_set):
    model = make_model("softmax")
    with pytest.warns(UserWarning, match="'a' look like probabilities"):
        keras_distill.compare(
            {"a": lambda x: model(x)},
            test_set,
            latency_batch_sizes=(),
            verbose=0,
        )

"""`compare`: every number is compared with one computed by hand."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import log_softmax
from scipy.special import softmax

import keras_distill
import reference

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
    kernel, bias = map(np.float64, model.get_weights())
    return x @ kernel + bias


@pytest.mark.parametrize("form", ["arrays", "dataset", "one-hot"])
def test_values(models, test_set, form):
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
        assert found.macs == 30
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


def test_probabilities_and_bins(test_set):
    x, y = test_set
    z = x[:, :5]
    # The model is right only where it is not confident.
    confidence = softmax(z, axis=-1).max(axis=-1)
    y = np.where(confidence < np.median(confidence), z.argmax(-1), y)
    report = keras_distill.compare(
        {"function": lambda x: keras.ops.softmax(x[:, :5])},
        (x, y),
        num_bins=5,
        from_logits=False,
        latency_batch_sizes=(),
        verbose=0,
    )
    found = report.models["function"]
    assert found.errors == np.sum(z.argmax(-1) != y)
    expected = reference.calibration_error(y, z, 5)
    assert found.expected_calibration_error == pytest.approx(expected, rel=1e-3)
    assert abs(reference.calibration_error(y, z, 15) / expected - 1) > 0.01


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
    with pytest.raises(ValueError, match="Received: 'unknown'"):
        report.mcnemar("unknown", "Teacher")


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


def test_callables_and_ensembles(make_model, test_set):
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
    assert report.models["a function"].macs == 30
    assert report.models["an ensemble"].parameters == 70
    assert report.models["an ensemble"].macs == 60
    assert "as the teacher" not in str(report)


def test_text_markdown_dataframe_and_dict(models, test_set, capsys):
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


def test_a_single_latency_batch_size(make_model, test_set):
    report = keras_distill.compare(
        {"a": make_model()}, test_set, latency_batch_sizes=2, verbose=0
    )
    assert report.models["a"].latency.keys() == {2}


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
        ({"models": {"a": 3}}, "Received: 3"),
        ({"models": {"a": several_outputs()}}, "one output"),
        ({"teacher": "b"}, "Received: teacher='b'"),
        ({"temperature": 0}, "Received: temperature=0"),
        ({"num_bins": 0}, "Received: num_bins=0"),
        ({"latency_batch_sizes": (0,)}, "Received: latency_batch_sizes=0"),
        ({"latency_batch_sizes": 1.5}, "latency_batch_sizes=1.5"),
        ({"latency_batch_sizes": "a"}, "latency_batch_sizes='a'"),
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


def test_outputs_and_labels_must_match(make_model, test_set):
    x, y = test_set
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(7)])
    with pytest.raises(ValueError, match="same number of classes"):
        keras_distill.compare(
            {"a": make_model(), "b": other}, test_set, verbose=0
        )
    with pytest.raises(ValueError, match=r"from 0 to 4\. Received: a label"):
        keras_distill.compare({"a": make_model()}, (x, y + 5), verbose=0)


def test_warns_about_a_hidden_softmax(make_model, test_set):
    model = make_model("softmax")
    with pytest.warns(UserWarning, match="'a' look like probabilities"):
        keras_distill.compare(
            {"a": lambda x: model(x)},
            test_set,
            latency_batch_sizes=(),
            verbose=0,
        )


def test_masked_positions_and_ignored_labels_do_not_count():
    inputs = keras.Input((6,), dtype="int32")

    def tagger(seed):
        keras.utils.set_random_seed(seed)
        embedded = keras.layers.Embedding(10, 5, mask_zero=True)(inputs)
        return keras.Model(inputs, keras.layers.Dense(4)(embedded))

    models = {"teacher": tagger(1), "student": tagger(2)}
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 10, (20, 6)), rng.integers(0, 4, (20, 6))
    x[:, 4:] = 0
    y[:5, 0] = -1
    report = keras_distill.compare(
        models, (x, y), ignore_class=-1, latency_batch_sizes=(), verbose=0
    )
    counted = (x != 0) & (y != -1)
    z = {name: model.predict(x, verbose=0) for name, model in models.items()}
    assert report.examples == counted.sum() == 75
    for name, logits in z.items():
        wrong = (logits.argmax(-1) != y) & counted
        assert report.models[name].errors == wrong.sum()
    student = report.models["student"]
    same = z["student"].argmax(-1) == z["teacher"].argmax(-1)
    assert student.teacher_agreement == pytest.approx(same[counted].mean())
    assert student.teacher_kl_divergence == pytest.approx(
        reference.kl_divergence(z["teacher"], z["student"], 1.0)[
            counted
        ].mean(),
        rel=1e-4,
    )


@pytest.mark.parametrize("teacher", [True, False])
def test_batches_without_an_example_that_counts(models, test_set, teacher):
    x, y = test_set
    if not teacher:
        models = {"student": models["distilled"]}
    expected = keras_distill.compare(
        models, (x[:40], y[:40]), latency_batch_sizes=(), verbose=0
    )
    options = {"ignore_class": -1, "latency_batch_sizes": (), "verbose": 0}
    some = np.concatenate([np.full(3, -1), y[:40], np.full(1, -1)])
    x = np.concatenate([x[:3], x[:40], x[:1]])
    for batch_size in (1, 43, 44):
        report = keras_distill.compare(
            models, (x, some), batch_size=batch_size, **options
        )
        for name, model in expected.models.items():
            found = report.models[name]
            assert found.errors == model.errors
            assert found.expected_calibration_error == pytest.approx(
                model.expected_calibration_error, abs=1e-6
            )
            assert found.teacher_agreement == model.teacher_agreement
    with pytest.raises(ValueError, match="one example that counts"):
        keras_distill.compare(models, (x, np.full(44, -1)), **options)


def test_examples_with_nan_are_errors(make_model, test_set):
    """A diverged model has no most likely class."""
    x, y = test_set
    diverged = make_model()
    diverged.set_weights([weight * np.nan for weight in diverged.get_weights()])
    report = keras_distill.compare(
        {"student": make_model(), "diverged": diverged},
        (x, y),
        latency_batch_sizes=(),
        verbose=0,
    )
    assert (y == 0).any()
    assert report.models["diverged"].errors == SAMPLES
    assert report.models["student"].errors < SAMPLES


def test_an_ensemble_is_averaged_at_the_temperature(make_model, test_set):
    x, _ = test_set
    members = [make_model(seed=1), make_model(seed=2)]
    student = make_model(seed=3)
    report = keras_distill.compare(
        {"teacher": keras_distill.Ensemble(members), "student": student},
        test_set,
        temperature=4.0,
        latency_batch_sizes=(),
        verbose=0,
    )
    p = np.mean(
        [softmax(logits_by_hand(member, x) / 4, -1) for member in members],
        axis=0,
    )
    log_q = log_softmax(logits_by_hand(student, x) / 4, -1)
    expected = np.sum(p * (np.log(p) - log_q), -1).mean()
    assert report.models["student"].teacher_kl_divergence == pytest.approx(
        expected, rel=1e-4
    )
    logits = keras_distill.predict_logits(
        keras_distill.Ensemble(members), x, temperature=4.0, verbose=0
    )
    np.testing.assert_allclose(softmax(logits / 4, -1), p, rtol=1e-4)
    with pytest.raises(ValueError, match="a member of the ensemble"):
        keras_distill.suggest_temperature(keras_distill.Ensemble(members), x)


def test_members_of_an_ensemble_run_once(make_model, test_set):
    """Also with nested ensembles and weights that depend on the inputs."""
    x, _ = test_set
    calls = []

    def make_member(seed):
        model = make_model(seed=seed)

        def call(inputs):
            calls.append(seed)
            return model(inputs)

        return call

    def weights(inputs):
        first = keras.ops.sigmoid(inputs[:, :1])
        return keras.ops.concatenate([first, 1 - first], axis=-1)

    geometric = keras_distill.Ensemble(
        [make_member(1), make_member(2)], "geometric"
    )
    inner = keras_distill.Ensemble([make_member(3), geometric])
    teacher = keras_distill.Ensemble(
        [inner, make_model("softmax", seed=4)], weights=weights
    )
    student = make_model(seed=5)
    report = keras_distill.compare(
        {"teacher": teacher, "student": student},
        test_set,
        temperature=4.0,
        latency_batch_sizes=(),
        verbose=0,
    )
    # The second call counts the MACs.
    assert sorted(calls) == [1, 1, 2, 2, 3, 3]
    served, softened = (
        keras_distill.predict_logits(
            teacher, x, temperature=temperature, verbose=0
        )
        for temperature in (1.0, 4.0)
    )
    z = logits_by_hand(student, x)
    found = report.models["student"]
    assert found.teacher_agreement == pytest.approx(
        np.mean(served.argmax(-1) == z.argmax(-1))
    )
    assert found.teacher_kl_divergence == pytest.approx(
        reference.kl_divergence(softened, z, 4.0).mean() / 16, rel=1e-4
    )
    assert report.models["teacher"].expected_calibration_error == pytest.approx(
        reference.calibration_error(test_set[1], served, 15), rel=1e-3
    )


def test_names_that_are_integers_or_contain_a_pipe(make_model, test_set):
    report = keras_distill.compare(
        {1: make_model(), "a|b": make_model(seed=2)},
        test_set,
        latency_batch_sizes=(),
        verbose=0,
    )
    assert str(report) == repr(report)
    assert "ms for" not in str(report)
    assert not any("latency" in column for column in report.to_dataframe())
    assert r"a\|b" in report.to_markdown()
    assert "1" in report.to_dict()

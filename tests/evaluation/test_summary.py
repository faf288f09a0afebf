"""`summarize`: medians and ranges over several seeds."""

import json

import numpy as np
import pytest

import keras_distill


@pytest.fixture
def reports(make_model):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 6)).astype("float32"), rng.integers(0, 5, 60)
    return [
        keras_distill.compare(
            {"teacher": make_model(seed=1), "student": make_model(seed=seed)},
            data,
            latency_batch_sizes=(),
            verbose=0,
        )
        for seed in (2, 3, 4)
    ]


def test_values_equal_the_reports(reports):
    summary = keras_distill.summarize(reports)
    assert summary.examples == 60
    for name in ("teacher", "student"):
        for field, values in summary.values[name].items():
            assert values == [
                getattr(report.models[name], field) for report in reports
            ]
    assert json.loads(json.dumps(summary.to_dict())) == summary.values


def test_table(reports):
    lines = str(keras_distill.summarize(reports)).splitlines()
    assert lines[0].split("  ")[-1].strip() == "calibration error"
    assert "errors of 60" in lines[0]
    errors = [report.models["student"].errors for report in reports]
    assert len(set(errors)) > 1
    expected = f"{np.median(errors):.0f} [{min(errors)}, {max(errors)}]"
    assert lines[3].startswith("student")
    assert expected in lines[3]
    kl = [report.models["student"].teacher_kl_divergence for report in reports]
    assert f"{np.median(kl):.4f} [{min(kl):.4f}, {max(kl):.4f}]" in lines[3]
    # The teacher is not compared with itself.
    assert lines[2].count("[") == 3


def test_a_median_between_two_integers_is_not_rounded():
    def summarize(*errors):
        values = {
            "errors": list(errors),
            "accuracy": [0.5] * len(errors),
            "teacher_agreement": [None],
            "teacher_kl_divergence": [None],
            "expected_calibration_error": [0.0],
        }
        summary = keras_distill.ComparisonSummary({"a": values}, 5000)
        return summary.to_markdown()

    assert "| 8.5 [8, 9] |" in summarize(8, 9)
    assert "| 1,011.5 [1,011, 1,012] |" in summarize(1011, 1012)
    assert "| 9 [8, 10] |" in summarize(8, 10)


def test_table_of_a_single_seed_has_no_ranges(reports):
    text = keras_distill.summarize(reports[:1]).to_markdown()
    assert keras_distill.summarize(reports[0]).to_markdown() == text
    assert "[" not in text
    assert text.splitlines()[1] == "| --- |" + " --: |" * 5


def test_columns_of_the_teacher_are_omitted_without_a_teacher(make_model):
    report = keras_distill.compare(
        {"student": make_model(seed=1)},
        (np.ones((3, 6), "float32"), np.arange(3)),
        latency_batch_sizes=(),
        verbose=0,
    )
    summary = keras_distill.summarize([report, report])
    assert "as the teacher" not in str(summary)
    assert repr(summary) == str(summary)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda reports: [], r"Received: \[\]"),
        (lambda reports: [1], r"Received: \[1\]"),
        (lambda reports: reports[0].models.values(), "results of `compare`"),
    ],
)
def test_bad_input(reports, change, message):
    with pytest.raises(ValueError, match=message):
        keras_distill.summarize(change(reports))


def test_reports_of_different_models_or_test_sets(reports, make_model):
    def compare(name, count):
        return keras_distill.compare(
            {"teacher": make_model(seed=1), name: make_model(seed=2)},
            (np.ones((count, 6), "float32"), np.zeros(count, int)),
            latency_batch_sizes=(),
            verbose=0,
        )

    with pytest.raises(ValueError, match="'unknown'"):
        keras_distill.summarize([reports[0], compare("unknown", 60)])
    with pytest.raises(ValueError, match="60 and 59 examples"):
        keras_distill.summarize([reports[0], compare("student", 59)])

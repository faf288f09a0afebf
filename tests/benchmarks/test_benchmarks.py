"""The benchmarks run, and their figures come of their samples.

How long anything takes is for `make bench` to say.
"""

import importlib.util
import json
import pathlib
import statistics

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
SECONDS = ("cpu_seconds", "wall_seconds")


@pytest.fixture
def load(monkeypatch):
    """Imports a script from its path, as `python benchmarks/...` finds it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        specification = importlib.util.spec_from_file_location(
            f"benchmark_{name}", BENCHMARKS / f"{name}.py"
        )
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


def values(samples, variant, quantity):
    return [
        sample[quantity] for sample in samples if sample["variant"] == variant
    ]


def check_samples(samples, variants, rounds, steps):
    """Every round has every variant once, and all do the same steps."""
    for number in range(rounds):
        assert sorted(
            sample["variant"] for sample in samples if sample["round"] == number
        ) == sorted(variants)
    assert len(samples) == rounds * len(variants)
    assert {sample["steps"] for sample in samples} == {steps}


def check_summaries(analysis, variants, quantities):
    assert set(analysis["summaries"]) == set(variants)
    for variant in variants:
        for quantity in quantities:
            measured = values(analysis["samples"], variant, quantity)
            summary = analysis["summaries"][variant][quantity]
            assert summary["median"] == pytest.approx(
                statistics.median(measured)
            )
            assert summary["minimum"] == min(measured)
            assert summary["maximum"] == max(measured)


def check_ratio(analysis, name, quantity, expected):
    ratio = analysis["ratios"][name][quantity]
    assert ratio["values"] == pytest.approx(expected)
    assert ratio["median"] == pytest.approx(statistics.median(expected))


def check_json(path, results, capsys):
    assert json.loads(path.read_text()) == json.loads(json.dumps(results))
    assert set(results["environment"]["versions"]) == {
        "keras",
        "keras_distill",
        "numpy",
        "python",
        "tensorflow",
    }
    printed = capsys.readouterr().out
    assert results["command"] in printed
    assert str(path) in printed


def test_training(load, tmp_path, capsys):
    path = tmp_path / "new" / "training.json"
    training = load("training")
    results = training.main(
        [
            "--rounds=2",
            "--steps=3",
            "--batch-size=4",
            "--teacher-units=3",
            "--student-units=2",
            "--optimizer=sgd",
            "--memory-rounds=1",
            f"--output={path}",
        ]
    )

    time = results["time"]
    check_samples(time["samples"], training.LABELS, rounds=2, steps=3)
    check_summaries(time, training.LABELS, SECONDS)
    for quantity in SECONDS:
        a, b, c, d, e = (
            values(time["samples"], variant, quantity)
            for variant in (
                "student",
                "keras_distill",
                "keras_distillation",
                "teacher",
                "batches",
            )
        )
        for name, expected in {
            "b / (a + d)": [b[i] / (a[i] + d[i]) for i in range(2)],
            "b / (a + d - e)": [b[i] / (a[i] + d[i] - e[i]) for i in range(2)],
            "b / c": [b[i] / c[i] for i in range(2)],
            "b / a": [b[i] / a[i] for i in range(2)],
            "c / a": [c[i] / a[i] for i in range(2)],
        }.items():
            check_ratio(time, name, quantity, expected)
    assert time["ratios"]["b / (a + d)"]["target"] == 1.05
    assert time["ratios"]["b / c"]["target"] == 1.0

    memory = results["memory"]
    peers = ("keras_distill", "keras_distillation")
    check_samples(memory["samples"], peers, rounds=1, steps=3)
    for quantity in ("peak_bytes", "growth_bytes"):
        check_summaries(memory, peers, [quantity])
        b, c = (values(memory["samples"], peer, quantity) for peer in peers)
        check_ratio(memory, "b / c", quantity, [b[0] / c[0]])
    assert memory["ratios"]["b / c"]["target"] == 1.0

    check_json(path, results, capsys)


def test_jit_compile(load, tmp_path, capsys):
    path = tmp_path / "jit_compile.json"
    results = load("jit_compile").main(
        [
            "--kinds=dropout",
            "--rounds=2",
            "--steps=2",
            "--batch-size=4",
            "--shrink=200",
            f"--output={path}",
        ]
    )

    variants = ("dropout, xla", "dropout, none")
    time = results["time"]
    check_samples(time["samples"], variants, rounds=2, steps=2)
    check_samples(time["first_runs"], variants, rounds=1, steps=2)
    check_summaries(time, variants, SECONDS)
    for quantity in SECONDS:
        xla, none = (
            values(time["samples"], variant, quantity) for variant in variants
        )
        check_ratio(
            time,
            "dropout: xla / none",
            quantity,
            [xla[i] / none[i] for i in range(2)],
        )
        for variant in variants:
            assert time["compilations"][variant][quantity] == pytest.approx(
                values(time["first_runs"], variant, quantity)[0]
                - statistics.median(values(time["samples"], variant, quantity))
            )
    assert set(results["auto"]) == {"dropout"}

    check_json(path, results, capsys)


@pytest.mark.parametrize("name", ["training", "jit_compile"])
@pytest.mark.parametrize("option", ["--rounds=0", "--steps=-1"])
def test_counts_are_positive(load, name, option, capsys):
    with pytest.raises(SystemExit):
        load(name).main([option])
    assert "expected a positive integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.9, 0.9, 1.2], "yes"),
        ([1.0, 1.0, 1.0], "yes"),
        ([0.9, 1.1, 1.2], "unclear"),
        ([1.1, 1.1, 1.2], "no"),
    ],
)
def test_judge(load, values, verdict):
    measure = load("_measure")
    assert measure.judge(measure.summarize(values), 1.0) == verdict

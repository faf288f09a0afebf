"""The benchmarks run, and their figures come of their samples.

How long anything takes is for `make bench` to say.
"""

import importlib.util
import json
import pathlib
import statistics

import keras
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
SECONDS = ("cpu_seconds", "wall_seconds")
BYTES = ("peak_bytes", "growth_bytes")


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


def check_quotient(analysis, name, above, below, quantities):
    for quantity in quantities:
        numerators, denominators = (
            values(analysis["samples"], variant, quantity)
            for variant in (above, below)
        )
        quotients = [
            numerator / denominator
            for numerator, denominator in zip(
                numerators, denominators, strict=True
            )
        ]
        check_ratio(analysis, name, quantity, quotients)


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
    check_summaries(memory, peers, BYTES)
    check_quotient(memory, "b / c", *peers, BYTES)
    assert memory["ratios"]["b / c"]["target"] == 1.0

    check_json(path, results, capsys)


def test_compile_options(load, tmp_path, capsys):
    path = tmp_path / "compile_options.json"
    results = load("compile_options").main(
        [
            "--kinds=dropout",
            "--rounds=2",
            "--steps=2",
            "--batch-size=4",
            "--shrink=200",
            f"--output={path}",
        ]
    )

    variants = ("dropout, none", "dropout, xla", "dropout, 16 steps")
    time = results["time"]
    check_samples(time["samples"], variants, rounds=2, steps=2)
    check_samples(time["first_runs"], variants, rounds=1, steps=2)
    check_summaries(time, variants, SECONDS)
    for mode in ("xla", "16 steps"):
        check_quotient(
            time,
            f"dropout: {mode} / none",
            f"dropout, {mode}",
            "dropout, none",
            SECONDS,
        )
    for quantity in SECONDS:
        for variant in variants:
            assert time["compilations"][variant][quantity] == pytest.approx(
                values(time["first_runs"], variant, quantity)[0]
                - statistics.median(values(time["samples"], variant, quantity))
            )
    assert set(results["auto"]) == {"dropout"}

    check_json(path, results, capsys)


TINY = ["--images=8", "--batch-size=4", "--teacher-units=3", "--seed=1"]


def test_label_once_epoch(load, tmp_path, capsys):
    label_once = load("label_once")
    results = label_once.main(
        [
            "epoch",
            *TINY,
            "--rounds=2",
            "--epochs=2",
            "--student-units=2",
            f"--output={tmp_path}/{{pair}}.json",
        ]
    )

    time = results["time"]
    check_samples(time["samples"], label_once.EPOCH_LABELS, rounds=2, steps=4)
    check_summaries(time, label_once.EPOCH_LABELS, SECONDS)
    for name, above, below in (
        ("from memory / arrays", "memory", "arrays"),
        ("from a store / dataset", "store", "dataset"),
    ):
        check_quotient(time, name, above, below, SECONDS)
        assert time["ratios"][name]["target"] == 1.05

    check_json(tmp_path / "dense.json", results, capsys)


@pytest.mark.parametrize(
    ("teachers", "epochs", "speedup"), [(1, 10, 1.2), (2, 1, None)]
)
def test_label_once_total(load, tmp_path, capsys, teachers, epochs, speedup):
    label_once = load("label_once")
    results = label_once.main(
        [
            "total",
            *TINY,
            "--rounds=1",
            f"--teachers={teachers}",
            f"--epochs={epochs}",
            "--student-units=2",
            f"--output={tmp_path}/{{teachers}}_{{epochs}}.json",
        ]
    )

    time = results["time"]
    check_samples(
        time["samples"], label_once.TOTAL_LABELS, rounds=1, steps=2 * epochs
    )
    check_summaries(time, label_once.TOTAL_LABELS, SECONDS)
    name, *others = time["ratios"]
    check_quotient(time, name, "keras_distill", "keras_distillation", SECONDS)
    target = time["ratios"][name]["target"]
    assert target == (speedup and pytest.approx(1 / speedup))
    assert others == [
        "keras_distill / student.fit",
        "keras.distillation / student.fit",
    ]

    path = tmp_path / f"{teachers}_{epochs}.json"
    check_json(path, results, capsys)


def test_label_once_create(load, tmp_path, capsys):
    path = tmp_path / "create.json"
    label_once = load("label_once")
    results = label_once.main(
        [
            "create",
            *TINY,
            "--rounds=2",
            "--memory-rounds=1",
            "--memory-examples",
            "6",
            "5",
            f"--output={path}",
        ]
    )

    time = results["time"]
    check_samples(time["samples"], label_once.CREATE_LABELS, rounds=2, steps=2)
    check_summaries(time, label_once.CREATE_LABELS, SECONDS)
    (name,) = time["ratios"]
    check_quotient(time, name, "create", "predict", SECONDS)
    assert time["ratios"][name]["target"] == pytest.approx(1 / 0.95)

    memory = results["memory"]
    numbers = ("5 examples", "6 examples")
    check_samples(memory["samples"], numbers, rounds=1, steps=2)
    check_summaries(memory, numbers, BYTES)
    check_quotient(memory, "6 examples / 5", *reversed(numbers), BYTES)

    check_json(path, results, capsys)


def test_label_once_convolutional_pair(load):
    label_once = load("label_once")
    pair = label_once.PAIRS["convolutional"]
    teacher, student = pair.make_teacher(None), pair.make_student(None)
    assert teacher.input_shape == student.input_shape == (None, *pair.shape)
    assert teacher.output_shape == student.output_shape == (None, 10)
    assert teacher.count_params() > 50 * student.count_params()
    assert teacher.layers[-1].activation is keras.activations.linear


def test_label_once_knows_mnist_as_dense(load, capsys):
    with pytest.raises(SystemExit):
        load("label_once").main(
            ["epoch", "--pair=convolutional", "--data=mnist"]
        )
    assert "MNIST is for the dense pair" in capsys.readouterr().err


def test_cache_memory(load, tmp_path, capsys):
    path = tmp_path / "cache_memory.json"
    cache_memory = load("cache_memory")
    results = cache_memory.main(
        [
            "--rounds=1",
            "--examples=1000",
            "--classes=20",
            "--batch-size=100",
            f"--output={path}",
        ]
    )
    memory = results["memory"]
    steps = {sample["variant"]: sample["steps"] for sample in memory["samples"]}
    assert steps == {"cached": 10, "on the fly": 10, "estimate": 0}
    check_summaries(memory, cache_memory.LABELS, BYTES)
    (sizes,) = (
        sample
        for sample in memory["samples"]
        if sample["variant"] == "estimate"
    )
    # Four times so many numbers of four bytes.
    assert sizes["growth_bytes"] == 4 * 4 * 1000 * 20
    check_json(path, results, capsys)


def test_top_k(load, tmp_path, capsys):
    path = tmp_path / "top_k.json"
    top_k = load("top_k")
    results = top_k.main(
        [
            "--rounds=2",
            "--classes=20",
            "--k=3",
            "--steps=3",
            "--batch-size=4",
            "--units=2",
            "--memory-rounds=1",
            f"--output={path}",
        ]
    )

    time = results["time"]
    check_samples(time["samples"], top_k.LABELS, rounds=2, steps=3)
    check_summaries(time, top_k.LABELS, SECONDS)
    check_quotient(
        time, "loss: top-k / all", "top-k loss", "dense loss", SECONDS
    )
    check_quotient(
        time, "step: top-k / all", "top-k step", "dense step", SECONDS
    )

    memory = results["memory"]
    variants = ("top-k step", "dense step")
    check_samples(memory["samples"], variants, rounds=1, steps=3)
    check_summaries(memory, variants, BYTES)
    check_quotient(memory, "top-k / all", *variants, BYTES)

    check_json(path, results, capsys)


def test_teacher_precision(load, tmp_path, capsys):
    path = tmp_path / "teacher_precision.json"
    results = load("teacher_precision").main(
        [
            "--images=64",
            "--test-images=100",
            "--batch-size=16",
            "--teacher-units=32",
            "--student-units=4",
            "--rounds=2",
            f"--output={path}",
        ]
    )

    variants = ("float32", "bfloat16", "int8")
    check_samples(results["time"]["samples"], variants, rounds=2, steps=4)
    check_summaries(results["time"], variants, SECONDS)
    for variant in variants[1:]:
        check_quotient(
            results["time"],
            f"{variant} / float32",
            variant,
            "float32",
            SECONDS,
        )
    whole, half, quarter = (results["agreement"][each] for each in variants)
    assert half["bytes"] == whole["bytes"] / 2
    # Biases, and a scale of each unit, stay in float32.
    assert 0.25 < quarter["bytes"] / whole["bytes"] < 0.3
    assert whole["kl_divergence"] is None
    for lower in (half, quarter):
        assert 0 < lower["kl_divergence"] < 0.01
        assert 0.8 < lower["agreement"] <= 1

    check_json(path, results, capsys)


def test_machines(load, tmp_path, capsys):
    path = tmp_path / "machines.json"
    results = load("machines").main(
        [
            "--rounds=1",
            "--images=32",
            "--batch-size=8",
            "--teacher-units=4",
            "--student-units=4",
            f"--output={path}",
        ]
    )

    variants = [
        f"{job}, {workers}"
        for job in ("label", "train")
        for workers in ("1 worker", "2 workers")
    ]
    check_samples(results["time"]["samples"], variants, rounds=1, steps=4)
    for job in ("label", "train"):
        check_quotient(
            results["time"],
            f"{job}: speedup with 2",
            f"{job}, 1 worker",
            f"{job}, 2 workers",
            ["wall_seconds"],
        )
    check_json(path, results, capsys)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("training", ["--rounds=0"]),
        ("training", ["--steps=-1"]),
        ("compile_options", ["--rounds=0"]),
        ("compile_options", ["--steps=-1"]),
        ("label_once", ["epoch", "--rounds=0"]),
        ("label_once", ["total", "--teachers=-1"]),
        ("label_once", ["create", "--memory-examples", "1", "0"]),
        ("cache_memory", ["--classes=0"]),
        ("top_k", ["--rounds=0"]),
        ("top_k", ["--k=-1"]),
        ("teacher_precision", ["--rounds=0"]),
        ("machines", ["--workers=0"]),
    ],
)
def test_counts_are_positive(load, name, options, capsys):
    with pytest.raises(SystemExit):
        load(name).main(options)
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


def test_overhead(load, tmp_path, capsys):
    path = tmp_path / "overhead.json"
    overhead = load("overhead")
    results = overhead.main(
        ["--rounds=2", "--steps=3", "--batch-size=4", f"--output={path}"]
    )

    time = results["time"]
    check_samples(time["samples"], overhead.LABELS, rounds=2, steps=3)
    check_summaries(time, overhead.LABELS, SECONDS)
    for name, above in {
        "b / a": "cached",
        "c / a": "on_the_fly",
        "d / a": "keras_distillation",
    }.items():
        check_quotient(time, name, above, "student", SECONDS)
    check_json(path, results, capsys)


def test_calls(load, capsys):
    counts = load("calls").main(["--list"])

    *listed, summary = capsys.readouterr().out.splitlines()
    modules = [line.split()[0] for line in listed]
    assert counts["calls"] == len(listed)
    assert counts["modules"] == len(set(modules))
    assert f"{counts['calls']} calls" in summary
    # A step that anyone can follow.
    assert counts["calls"] <= 90
    assert counts["modules"] <= 10
    assert counts["changes of module"] <= 45

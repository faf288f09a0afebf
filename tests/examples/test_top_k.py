import importlib.util
import json
import pathlib

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def top_k():
    # As `python examples/top_k.py` does.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        path = EXAMPLES / "top_k.py"
        spec = importlib.util.spec_from_file_location("top_k", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def test_pairs_are_of_their_digits(top_k):
    images = np.arange(6, dtype="float32").reshape(6, 1, 1, 1)
    labels = np.array([3, 1, 4, 1, 5, 9])
    pairs, classes = top_k.make_pairs(
        images, labels, 50, np.random.default_rng(0)
    )
    assert pairs.shape == (50, 1, 2, 1)
    for (left, right), label in zip(pairs[:, 0, :, 0], classes, strict=True):
        assert label == 10 * labels[int(left)] + labels[int(right)]


def test_measures_each_k(top_k, tmp_path, capsys):
    output = tmp_path / "new"
    results = top_k.main(
        [
            "--seeds=1",
            "--epochs=1",
            "--pairs=600",
            "--top-k",
            "1",
            "99",
            f"--output={output}",
        ]
    )
    measured = results["measurements"]
    assert list(measured) == ["Teacher", "1", "99", "all"]
    assert measured["Teacher"][0]["agreement"] == 1.0
    # With all but one the rest is that one: the same training.
    assert (
        abs(measured["99"][0]["accuracy"] - measured["all"][0]["accuracy"])
        < 0.01
    )
    assert json.loads((output / "results.json").read_text()) == results
    printed = capsys.readouterr().out
    for name, of_seeds in measured.items():
        assert f"{100 * of_seeds[0]['accuracy']:.2f}" in printed, name


@pytest.mark.parametrize("option", [["--top-k", "100"], ["--alpha", "0.5"]])
def test_bad_options(top_k, option):
    with pytest.raises(SystemExit):
        top_k.main(option)

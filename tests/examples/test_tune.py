import importlib.util
import json
import pathlib

import matplotlib.image
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SETTINGS = (
    "--temperatures 4 1 --alphas 0.5 1 --seeds 2 --epochs 2 --labels 40 "
    "--validation-size 200"
)


@pytest.fixture(scope="module")
def tune():
    # As `python examples/tune.py` does.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        path = EXAMPLES / "tune.py"
        spec = importlib.util.spec_from_file_location("tune", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("tune") / "new" / "folder"


@pytest.fixture(scope="module")
def results(tune, output):
    return tune.main([*SETTINGS.split(), "--output", str(output)])


def find_states(output):
    """Returns what KerasTuner has written about each trial, and when."""
    return {
        path: (path.read_text(), path.stat().st_mtime_ns)
        for path in output.glob("search/trials/trial_*/trial.json")
    }


def test_no_image_is_in_two_parts(tune):
    data = tune.load_data(200)
    parts = [
        {image.tobytes() for image in data[f"{part}_images"]}
        for part in ("train", "validation", "test")
    ]
    assert [len(part) for part in parts] == [1097, 200, 500]
    assert len(set.union(*parts)) == 1797
    for part in ("train", "validation", "test"):
        images, labels = data[f"{part}_images"], data[f"{part}_labels"]
        assert len(images) == len(labels)
        assert set(labels) == set(range(10))


def test_test_images_equal_quickstart(tune):
    data = tune.load_data(200)
    np.testing.assert_array_equal(
        data["test_images"], tune.quickstart.load_data()["test_images"]
    )


def test_all_settings_are_tried(results):
    tried = [(t["temperature"], t["alpha"]) for t in results["trials"]]
    assert tried == [(1.0, 0.5), (1.0, 1.0), (4.0, 0.5), (4.0, 1.0)]
    assert results["examples"] == {
        "train": 1097,
        "validation": 200,
        "test": 500,
    }
    for trial in results["trials"]:
        assert len(trial["accuracies"]) == 2
        assert trial["mean"] == pytest.approx(np.mean(trial["accuracies"]))
        for accuracy in trial["accuracies"]:
            # So many of 200 images.
            assert 200 * accuracy == pytest.approx(round(200 * accuracy))
            # Two passes are enough to be far from chance.
            assert accuracy > 0.3
    of_all = [a for trial in results["trials"] for a in trial["accuracies"]]
    assert len(set(of_all)) > 2


def test_what_is_chosen_is_the_best(results):
    means = [trial["mean"] for trial in results["trials"]]
    best = results["trials"][int(np.argmax(means))]
    assert results["chosen"] == {
        "temperature": best["temperature"],
        "alpha": best["alpha"],
    }
    assert results["default"] == {"temperature": 4.0, "alpha": 0.9}


def test_best_of_equals_is_the_first(tune):
    trials = [
        {"temperature": 1.0, "alpha": 0.5, "mean": 0.7},
        {"temperature": 2.0, "alpha": 0.5, "mean": 0.9},
        {"temperature": 4.0, "alpha": 0.5, "mean": 0.9},
    ]
    assert tune.pick_best(trials) == {"temperature": 2.0, "alpha": 0.5}


def test_the_test_has_seeds_of_its_own(results):
    assert not set(results["validation_seeds"]) & set(results["test"]["seeds"])
    for measurements in results["test"]["measurements"]:
        assert len(measurements) == len(results["test"]["seeds"])
        for measured in measurements:
            right = 500 - measured["errors"]
            assert measured["accuracy"] == pytest.approx(right / 500)


def test_results_are_on_disk(results, output):
    assert json.loads((output / "results.json").read_text()) == results
    assert results["command"].startswith(
        "python examples/tune.py --temperatures 4 1 --alphas 0.5 1"
    )
    assert all(results["versions"].values())


def test_table_has_the_results(tune, results):
    table = tune.format_results(results)
    for name, measurements in zip(
        ("Chosen", "Quickstart's"),
        results["test"]["measurements"],
        strict=True,
    ):
        (line,) = (row for row in table.splitlines() if row.startswith(name))
        mean = 100 * np.mean([m["accuracy"] for m in measurements])
        assert f"{mean:.2f} ± " in line
    # The quickstart's alpha is not in this grid.
    assert "not tried" in table


def test_heat_map_has_a_colour_for_each_accuracy(results, output):
    picture = matplotlib.image.imread(output / "heat_map.png")
    colours = {tuple(pixel) for row in picture[::5, ::5] for pixel in row}
    means = {trial["mean"] for trial in results["trials"]}
    # White is the paper.
    assert len(colours) > len(means)


def test_second_run_tries_nothing_again(tune, results, output, capsys):
    before = find_states(output)
    teacher = (output / "search" / "teacher.keras").stat().st_mtime_ns
    assert len(before) == 4
    again = tune.main([*SETTINGS.split(), "--output", str(output)])
    assert find_states(output) == before
    assert (output / "search" / "teacher.keras").stat().st_mtime_ns == teacher
    assert again["trials"] == results["trials"]
    assert again["chosen"] == results["chosen"]
    assert "4 of 4 settings are done" in capsys.readouterr().out


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_goes_on_after_an_interruption(tune, tmp_path, monkeypatch, error):
    arguments = [
        *SETTINGS.split(),
        *("--alphas", "1", "--temperatures", "1", "4", "9"),
        *("--seeds=1", "--epochs=1", f"--output={tmp_path}"),
    ]
    fit = tune.Students.fit
    tried = []

    def stop_in_the_third(self, hp, model, **kwargs):
        if len(tried) == 2:
            raise error("stopped")
        tried.append(dict(hp.values))
        return fit(self, hp, model, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tune.Students, "fit", stop_in_the_third)
        with pytest.raises((KeyboardInterrupt, RuntimeError), match="stopped"):
            tune.main(arguments)
    assert not (tmp_path / "results.json").exists()
    done = list(find_states(tmp_path).items())[:2]

    def count(self, hp, model, **kwargs):
        tried.append(dict(hp.values))
        return fit(self, hp, model, **kwargs)

    monkeypatch.setattr(tune.Students, "fit", count)
    results = tune.main(arguments)
    # Each setting once, the one that was stopped too.
    assert tried == [
        {"temperature": trial["temperature"], "alpha": trial["alpha"]}
        for trial in results["trials"]
    ]
    assert len(tried) == 3
    assert dict(done).items() <= find_states(tmp_path).items()


def test_search_with_other_settings_is_refused(tune, results, output):
    assert results
    before = find_states(output)
    other = [*SETTINGS.split(), "--epochs=3", f"--output={output}"]
    with pytest.raises(SystemExit, match="'epochs': 2"):
        tune.main(other)
    assert find_states(output) == before


@pytest.mark.parametrize(
    "option",
    [["--temperatures", "0"], ["--alphas", "0.5", "1.5"], ["--seeds", "0"]],
)
def test_bad_options(tune, option, capsys):
    with pytest.raises(SystemExit):
        tune.main(option)
    assert option[0] in capsys.readouterr().err

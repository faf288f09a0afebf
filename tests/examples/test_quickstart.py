import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
ROWS = [
    "Teacher",
    "Student, from labels",
    "Student, distilled",
    "Student, from all labels",
]


@pytest.fixture(scope="module")
def quickstart():
    # As `python examples/quickstart.py` does.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        path = EXAMPLES / "quickstart.py"
        spec = importlib.util.spec_from_file_location("quickstart", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def results(quickstart, tmp_path_factory):
    output = tmp_path_factory.mktemp("quickstart") / "new" / "folder"
    settings = "--seeds 2 --epochs 1 --labels 20 --temperature 3 --alpha 0.7"
    return quickstart.main([*settings.split(), "--output", str(output)])


def test_split_is_disjoint_stratified_and_fixed(quickstart):
    data = quickstart.load_data()
    assert data["train_images"].shape == (1297, 8, 8, 1)
    assert data["test_images"].shape == (500, 8, 8, 1)
    assert data["train_images"].min() == 0
    assert data["train_images"].max() == 1
    train = {image.tobytes() for image in data["train_images"]}
    test = {image.tobytes() for image in data["test_images"]}
    assert not train & test
    counts = np.bincount(data["test_labels"])
    assert len(counts) == 10
    assert counts.min() >= 48
    again = quickstart.load_data()
    for key, value in data.items():
        np.testing.assert_array_equal(value, again[key])


def test_hide_labels_keeps_those_of_the_labelled_images_only(quickstart):
    hidden = quickstart.hide_labels(np.array([3, 1, 4, 1, 5]), [0, 3])
    np.testing.assert_array_equal(hidden, [3, -1, -1, 1, -1])


def test_labelled_images_differ_from_seed_to_seed(quickstart, results):
    labels = quickstart.load_data()["train_labels"]
    first, second = results["labelled"]
    for labelled in (first, second):
        assert len(set(labelled)) == 20
        np.testing.assert_array_equal(np.bincount(labels[labelled]), [2] * 10)
    assert set(first) != set(second)


def test_results_add_up(results):
    assert results["seeds"] == [0, 1]
    assert list(results["measurements"]) == ROWS
    for of_seeds in results["measurements"].values():
        assert len(of_seeds) == 2
        for measured in of_seeds:
            right = 500 - measured["errors"]
            assert measured["accuracy"] == pytest.approx(right / 500)
            assert 0 <= measured["agreement"] <= 1
    for measured in results["measurements"]["Teacher"]:
        assert measured["agreement"] == 1
        # One pass is enough to be far from chance.
        assert measured["accuracy"] > 0.5


def test_sizes(results):
    sizes = results["sizes"]
    for name in ROWS[1:]:
        assert sizes[name]["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    for size in sizes.values():
        assert size["bytes"] > 4 * size["parameters"]
    assert sizes["Teacher"]["bytes"] > 5 * sizes["Student, distilled"]["bytes"]


def test_gain_is_paired(results):
    alone = results["measurements"]["Student, from labels"]
    distilled = results["measurements"]["Student, distilled"]
    first, second = (
        (a["errors"] - d["errors"]) / 5
        for a, d in zip(alone, distilled, strict=True)
    )
    gain = results["gain"]
    assert gain["mean"] == pytest.approx((first + second) / 2)
    # Of two values, the standard error is half of their distance.
    assert gain["standard_error"] == pytest.approx(abs(first - second) / 2)
    assert gain["won"] == (first > 0) + (second > 0)


def test_table_has_a_line_for_each_model(results):
    lines = results["table"].splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert len({len(line) for line in lines}) == 1
    for line, name in zip(lines[2:], ROWS, strict=True):
        assert line.startswith(name + " ")
        assert f"{results['sizes'][name]['parameters']:,}" in line
        errors = [m["errors"] for m in results["measurements"][name]]
        assert f"{np.mean(errors):.1f} ± " in line


def test_distiller_has_the_settings_of_the_command_line(results):
    config = results["distiller"].get_compile_config()
    loss = config["distillation_loss"]["config"]
    assert results["distiller"].alpha == pytest.approx(0.7)
    assert loss["temperature"] == pytest.approx(3)


def test_saved_model_is_the_distilled_student(quickstart, results):
    data = quickstart.load_data()
    images = data["test_images"]
    exported = tf.saved_model.load(results["saved_model"])
    logits = exported.serve(images).numpy()
    trained = results["distiller"].student.predict(images, verbose=0)
    np.testing.assert_allclose(logits, trained, atol=1e-4)
    assert results["largest_difference"] < 1e-4
    wrong = np.sum(logits.argmax(axis=-1) != data["test_labels"])
    measured = results["measurements"]["Student, distilled"][0]
    assert wrong == measured["errors"]


def test_picture_is_a_png(results):
    content = results["picture"].read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) > 20_000


def test_settings_that_make_no_sense_are_refused(quickstart, capsys):
    for arguments in (["--seeds", "0"], ["--epochs", "-1"], ["--labels", "x"]):
        with pytest.raises(SystemExit):
            quickstart.main(arguments)
        assert arguments[0] in capsys.readouterr().err

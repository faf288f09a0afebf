import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
ROWS = ["Teacher", "Student, from labels", "Student, distilled"]


def is_prepared():
    """Returns whether MNIST is on disk, so that no test downloads it."""
    return pathlib.Path(tfds.builder("mnist").data_dir).exists()


pytestmark = pytest.mark.skipif(
    not is_prepared(), reason="MNIST is not prepared (see TFDS_DATA_DIR)"
)


@pytest.fixture(scope="module")
def mnist():
    # As `python examples/mnist.py` does.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        path = EXAMPLES / "mnist.py"
        spec = importlib.util.spec_from_file_location("mnist", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def results(mnist, tmp_path_factory):
    output = tmp_path_factory.mktemp("mnist") / "output"
    settings = (
        "--seeds 1 --epochs 1 --train-size 1000 --temperature 8 --alpha 0.8"
    )
    return mnist.main(
        [*settings.split(), "--alpha", "0.8", "--output", str(output)]
    )


def test_data_has_the_size_asked_for(mnist):
    data = mnist.load_data(300)
    assert data["train_images"].shape == (300, 28, 28, 1)
    assert data["test_images"].shape == (10000, 28, 28, 1)
    assert len(data["train_labels"]) == 300
    assert data["train_images"].min() == 0
    assert data["train_images"].max() == 1
    assert set(data["test_labels"]) == set(range(10))


def test_results_add_up(results):
    assert list(results["measurements"]) == ROWS
    for (measured,) in results["measurements"].values():
        right = 10000 - measured["errors"]
        assert measured["accuracy"] == pytest.approx(right / 10000)
        assert measured["accuracy"] > 0.4
    assert results["measurements"]["Teacher"][0]["agreement"] == 1
    assert len(results["gain"]["differences"]) == 1


def test_networks_are_the_papers(results):
    sizes = results["sizes"]
    teacher = 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 10 + 10
    student = 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10
    assert sizes["Teacher"]["parameters"] == teacher
    assert sizes["Student, from labels"]["parameters"] == student
    assert sizes["Student, distilled"]["parameters"] == student


def test_table_has_a_line_for_each_model(results):
    lines = results["table"].splitlines()
    assert len(lines) == 2 + len(ROWS)
    for line, name in zip(lines[2:], ROWS, strict=True):
        assert line.startswith(name + " ")
        assert f"{results['measurements'][name][0]['errors']}.0" in line
        # One seed has no standard error.
        assert "±" not in line


def test_distiller_has_the_settings_of_the_command_line(results):
    config = results["distiller"].get_compile_config()
    loss = config["distillation_loss"]["config"]
    assert results["distiller"].alpha == pytest.approx(0.8)
    assert loss["temperature"] == pytest.approx(8)


def test_saved_model_is_the_distilled_student(mnist, results):
    images = mnist.load_data(1)["test_images"]
    exported = tf.saved_model.load(results["saved_model"])
    trained = results["distiller"].student.predict(images, verbose=0)
    np.testing.assert_allclose(exported.serve(images), trained, atol=1e-4)
    assert results["picture"].read_bytes().startswith(b"\x89PNG\r\n")


def test_more_images_than_there_are_are_refused(mnist, capsys):
    with pytest.raises(SystemExit):
        mnist.main(["--train-size", "60001"])
    assert "60000" in capsys.readouterr().err

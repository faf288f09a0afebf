"""A `.keras` file from a stranger runs no code."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest

import keras_distill
from keras_distill import losses
from keras_distill import metrics


def make_model(*layers):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), *layers])


def make_distiller(student=None, **kwargs):
    distiller = keras_distill.Distiller(student=student or make_model())
    distiller.compile("sgd", **kwargs)
    return distiller


def load(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras", safe_mode=True)


def edit(source, target, change):
    """Copies a `.keras` file with another config."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)


@pytest.mark.parametrize(
    "make",
    [
        *(
            lambda loss=loss: make_distiller(distillation_loss=loss)
            for loss in (
                losses.SoftTargetCrossentropy(2.0),
                losses.SoftTargetKLDivergence(2.0),
                losses.LogitMatching(),
            )
        ),
        lambda: make_distiller(
            distillation_metrics=[
                metrics.TeacherAgreement(),
                metrics.TeacherKLDivergence(2.0),
                metrics.SoftTargetEntropy(2.0),
            ],
            metrics=[metrics.BrierScore(), metrics.ExpectedCalibrationError()],
        ),
        lambda: keras_distill.Ensemble([make_model(), make_model()]),
        lambda: make_model(keras_distill.TemperatureSoftmax(2.0)),
    ],
)
def test_everything_loads_in_safe_mode(tmp_path, make):
    model = make()
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(load(model, tmp_path)(x), model(x), rtol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: make_distiller(model),
        lambda model: keras_distill.Ensemble([model, make_model()]),
        lambda model: make_distiller(
            keras_distill.Ensemble([make_model(), model])
        ),
    ],
)
def test_a_lambda_layer_is_not_loaded(tmp_path, wrap):
    touched = tmp_path / "touched"
    name = str(touched)

    # Keras writes the code of a lambda to the file.
    layer = keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1])
    model = wrap(make_model(layer))
    model.save(tmp_path / "model.keras")
    touched.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="lambda"):
        keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert not touched.exists()


SYSTEM = {
    "module": "os",
    "class_name": "function",
    "config": "system",
    "registered_name": "system",
}
CALL = {
    "module": "subprocess",
    "class_name": "Popen",
    "config": {"args": ["touch", "touched"]},
    "registered_name": "Popen",
}


@pytest.mark.parametrize("crafted", [SYSTEM, CALL])
@pytest.mark.parametrize(
    "place",
    [
        ("config", "student"),
        ("compile_config", "distillation_loss"),
        ("compile_config", "distillation_metrics"),
        ("compile_config", "loss"),
        ("compile_config", "alpha"),
    ],
)
def test_a_crafted_config_is_refused(tmp_path, monkeypatch, place, crafted):
    monkeypatch.chdir(tmp_path)
    make_distiller().save("model.keras")
    section, key = place

    def change(config):
        assert key in config[section]
        config[section][key] = crafted

    edit("model.keras", "crafted.keras", change)
    try:
        loaded = keras.saving.load_model("crafted.keras", safe_mode=True)
    except (TypeError, ValueError, AttributeError):
        loaded = None
    assert not pathlib.Path("touched").exists()
    # Keras itself may keep a function without a use, and never calls it.
    assert loaded is None or key == "loss"

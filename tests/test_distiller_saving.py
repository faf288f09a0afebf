"""What is saved is the student, and training goes on from it."""

import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill
from keras_distill import losses


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.head = keras.layers.Dense(units)

    def build(self, input_shape):
        self.head.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.head(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def make_distiller(student, teacher=None, **kwargs):
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer=keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **{
            "distillation_loss": losses.SoftTargetCrossentropy(3.0),
            "alpha": 0.6,
            **kwargs,
        },
    )
    return distiller


def big_teacher():
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(321, name="teacher_hidden"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(5),
        ]
    )


def shapes_in(path):
    """The shapes of all arrays in an HDF5 file."""
    shapes = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, item: (
                shapes.append(item.shape)
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return sorted(shapes)


def test_only_the_student_has_weights(data, make_model, tmp_path):
    student = make_model(seed=1)
    distiller = make_distiller(student, big_teacher())
    distiller.fit(*data, verbose=0)
    assert [id(w) for w in distiller.weights] == [
        id(w) for w in student.weights
    ]
    assert distiller.count_params() == student.count_params()
    distiller.save_weights(tmp_path / "distiller.weights.h5")
    plain = make_model(seed=1)
    plain.compile(
        keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    plain.fit(*data, verbose=0)
    plain.save_weights(tmp_path / "plain.weights.h5")
    saved = shapes_in(tmp_path / "distiller.weights.h5")
    expected = shapes_in(tmp_path / "plain.weights.h5")
    assert saved == expected


@pytest.mark.parametrize(
    ("kind", "several"),
    [
        pytest.param("sequential", True, marks=pytest.mark.compiled),
        ("subclassed", False),
    ],
)
def test_save_load_and_train_on(data, make_model, tmp_path, kind, several):
    x, y = data
    teacher = big_teacher()
    if kind == "sequential":
        student = make_model(seed=1)
    else:
        student = Subclassed(5)
        student.build((None, 6))
    kwargs = {}
    if several:
        kwargs = {
            "distillation_loss": [
                losses.SoftTargetCrossentropy(3.0),
                losses.LogitMatching(),
            ],
            "distillation_loss_weights": [1.0, 0.1],
        }
    distiller = make_distiller(student, teacher, **kwargs)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    distiller.fit(x, y, epochs=2, **fit)
    distiller.alpha = 0.3
    distiller.save(tmp_path / "distiller.keras")
    with zipfile.ZipFile(tmp_path / "distiller.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
        assert "teacher_hidden" not in archive.read("config.json").decode()
    assert not [
        shape
        for shape in shapes_in(tmp_path / "model.weights.h5")
        if 321 in shape
    ]

    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.teacher is None
    assert loaded.alpha == 0.3
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), distiller.predict(x, verbose=0)
    )
    expected = distiller.evaluate(x, y, verbose=0, return_dict=True)
    logs = loaded.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-6)

    # The next two epochs are the same whether there was a break or not.
    loaded.teacher = teacher
    assert int(loaded.optimizer.iterations) == 6
    history = loaded.fit(x, y, epochs=2, **fit).history
    expected = distiller.fit(x, y, epochs=2, **fit).history
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    for ours, theirs in zip(
        loaded.student.get_weights(), student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_changed_temperature_is_saved(data, make_model, tmp_path):
    distiller = make_distiller(make_model())
    loss = losses.SoftTargetKLDivergence(3.0)
    distiller.compile("sgd", distillation_loss=loss)
    loss.temperature = 7.0
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    config = loaded.get_compile_config()["distillation_loss"]["config"]
    assert config["temperature"] == 7.0


@pytest.mark.parametrize("auto_scale_loss", [True, False])
def test_the_optimizer_is_the_one_that_was_saved(
    data, tmp_path, auto_scale_loss
):
    student = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, dtype="mixed_float16")]
    )
    distiller = make_distiller(student)
    distiller.compile("adam", auto_scale_loss=auto_scale_loss)
    x, _ = data
    zeros = np.zeros((len(x), 5), "float32")
    distiller.train_on_batch(keras_distill.WithSoftTargets(x, zeros))
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert type(loaded.optimizer) is type(distiller.optimizer)
    assert int(loaded.optimizer.iterations) == 1


def test_automatic_jit_compile_is_saved(data, make_model, tmp_path):
    """The value depends on the machine, and on the teacher."""
    distiller = keras_distill.Distiller(
        student=make_model(), teacher=make_model(seed=5)
    )
    distiller.compile("adam")
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert loaded.get_compile_config()["jit_compile"] == "auto"
    assert loaded.jit_compile == distiller.jit_compile
    distiller.compile("adam", jit_compile=False)
    assert distiller.get_compile_config()["jit_compile"] is False


def test_an_uncompiled_distiller_is_saved(make_model, tmp_path):
    distiller = keras_distill.Distiller(student=make_model(seed=4))
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert not loaded.compiled
    np.testing.assert_array_equal(
        loaded.student.get_weights()[0], distiller.student.get_weights()[0]
    )


@pytest.mark.parametrize("weights_only", [True, False])
def test_model_checkpoint(data, make_model, tmp_path, weights_only):
    x, y = data
    suffix = ".weights.h5" if weights_only else ".keras"
    path = str(tmp_path / f"{{epoch}}{suffix}")
    distiller = make_distiller(make_model(seed=1), big_teacher())
    after_first = []
    distiller.fit(
        x,
        y,
        epochs=2,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                path, save_weights_only=weights_only
            ),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: after_first.append(
                    distiller.student.get_weights()
                )
            ),
        ],
    )
    if weights_only:
        distiller.load_weights(path.format(epoch=1))
        restored = distiller
    else:
        restored = keras.models.load_model(path.format(epoch=1))
    for ours, theirs in zip(
        restored.student.get_weights(), after_first[0], strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_early_stopping_restores_the_best_student(data, make_model):
    x, y = data
    distiller = make_distiller(make_model(seed=1), big_teacher())
    by_epoch = []

    class Spoils(keras.callbacks.Callback):
        """Makes the third epoch the best, and those after it worse."""

        def on_epoch_begin(self, epoch, logs=None):
            by_epoch.append(self.model.student.get_weights())

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = abs(epoch - 2)

    history = distiller.fit(
        x,
        y,
        epochs=9,
        validation_data=(x, y),
        verbose=0,
        callbacks=[
            Spoils(),
            keras.callbacks.EarlyStopping(
                patience=2, restore_best_weights=True
            ),
        ],
    )
    assert len(history.epoch) == 5
    # What epoch 3 began with is what epoch 2, the best, ended with.
    for ours, theirs in zip(
        distiller.student.get_weights(), by_epoch[3], strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_compile_again_forgets_the_former_losses(data, make_model):
    x, y = data
    distiller = make_distiller(make_model(seed=1), make_model(seed=5))
    assert "hard_loss" in distiller.fit(x, y, verbose=0).history
    distiller.compile("sgd")
    history = distiller.fit(x, y, verbose=0).history
    assert set(history) == {"loss", "soft_loss", "temperature"}
    np.testing.assert_allclose(history["loss"], history["soft_loss"])


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "nope"}, {"distillation_loss": "nope"}]
)
def test_a_refused_compile_changes_nothing(data, make_model, wrong):
    x, y = data
    distiller = make_distiller(make_model(seed=1), make_model(seed=5))
    before = distiller.alpha
    expected = distiller.evaluate(x, y, verbose=0, return_dict=True)
    with pytest.raises(ValueError, match="nope"):
        distiller.compile(**{"loss": "mse", "alpha": 0.2, **wrong})
    assert distiller.alpha == before
    assert expected == distiller.evaluate(x, y, verbose=0, return_dict=True)


def test_clone_of_the_student_trains_the_same(data, make_model):
    """A distiller holds no hidden state that its student depends on."""
    x, y = data
    teacher = big_teacher()
    results = []
    for _ in range(2):
        distiller = make_distiller(make_model(seed=1), teacher)
        distiller.fit(x, y, epochs=2, shuffle=False, verbose=0)
        results.append(
            tf.concat([tf.reshape(w, -1) for w in distiller.student.weights], 0)
        )
    np.testing.assert_array_equal(*results)

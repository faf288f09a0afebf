"""What `keras.callbacks.TensorBoard` writes, read from its event files."""

import keras
import pytest
from tensorboard.backend.event_processing import event_accumulator

import keras_distill


class Schedule(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.alpha = 0.9 - 0.2 * epoch
        self.model.distillation_loss[0].temperature = 4.0 - epoch


def read_scalars(folder):
    """Returns a dict of the values of each scalar, in order."""
    import tensorflow as tf

    accumulator = event_accumulator.EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [
            float(tf.make_ndarray(event.tensor_proto))
            for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()["tensors"]
    }


@pytest.mark.parametrize("as_list", [True, False])
def test_event_files(data, make_model, tmp_path, as_list):
    x, y = data
    distiller = keras_distill.Distiller(
        student=make_model(), teacher=make_model(seed=5)
    )
    distiller.compile(
        "sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=[
            keras_distill.losses.SoftTargetCrossentropy(4.0),
            keras_distill.losses.LogitMatching(),
        ],
        distillation_metrics=["teacher_agreement"],
        metrics=["accuracy"],
    )
    callbacks = [Schedule(), keras.callbacks.TensorBoard(tmp_path)]
    if not as_list:
        callbacks = keras.callbacks.CallbackList(
            callbacks, add_history=True, model=distiller, epochs=3
        )
    history = distiller.fit(
        x,
        y,
        epochs=3,
        validation_data=(x, y),
        callbacks=callbacks,
        verbose=0,
    )
    written = read_scalars(tmp_path / "train")
    for name in (
        "loss",
        "soft_loss",
        "hard_loss",
        "soft_target_crossentropy",
        "logit_matching",
        "alpha",
        "temperature",
        "accuracy",
        "teacher_agreement",
    ):
        assert written[f"epoch_{name}"] == pytest.approx(history.history[name])
    assert written["epoch_alpha"] == pytest.approx([0.9, 0.7, 0.5])
    assert written["epoch_temperature"] == pytest.approx([4.0, 3.0, 2.0])
    validation = read_scalars(tmp_path / "validation")
    assert validation["epoch_teacher_agreement"] == pytest.approx(
        history.history["val_teacher_agreement"]
    )

"""Training on several devices is training on one."""

import json
import os
import subprocess
import sys

import pytest

TRAIN = """
import contextlib, json, sys
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpu, 2 * [tf.config.LogicalDeviceConfiguration()]
)
import keras
import numpy as np
import keras_distill

x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
y = np.arange(64) % 5


def model(seed):
    initializer = keras.initializers.RandomNormal(seed=seed)
    return keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(5, kernel_initializer=initializer),
    ])


class Subclassed(keras.Model):
    # Not built before it is trained.

    def __init__(self):
        super().__init__()
        self.inner = model(1)

    def call(self, x):
        return self.inner(x)


def train(scope, make_student=lambda: model(1)):
    with scope:
        distiller = keras_distill.Distiller(
            student=make_student(), teacher=model(7)
        )
        distiller.compile(
            keras.optimizers.SGD(0.1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            distillation_loss=["soft_target_crossentropy", "logit_matching"],
            metrics=["accuracy"],
            distillation_metrics=["teacher_agreement"],
        )
    return distiller.fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, cache=False
    ).history


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
json.dump(
    [
        train(contextlib.nullcontext()),
        train(strategy.scope()),
        train(strategy.scope(), Subclassed),
    ],
    open(sys.argv[1], "w"),
)
"""


def test_mirrored_strategy(tmp_path):
    path = tmp_path / "histories.json"
    subprocess.run(
        [sys.executable, "-c", TRAIN, str(path)],
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    single, mirrored, subclassed = json.loads(path.read_text())
    assert set(single) == {
        "accuracy",
        "alpha",
        "hard_loss",
        "logit_matching",
        "loss",
        "soft_loss",
        "soft_target_crossentropy",
        "teacher_agreement",
        "temperature",
    }
    for name, values in single.items():
        assert mirrored[name] == pytest.approx(values, rel=1e-5), name
    # Of a student that is not built, a replica can not make the parts.
    for name, values in subclassed.items():
        assert single[name] == pytest.approx(values, rel=1e-5), name
    assert set(single) - set(subclassed) == {
        "logit_matching",
        "soft_target_crossentropy",
    }

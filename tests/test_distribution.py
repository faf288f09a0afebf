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


def train(scope):
    with scope:
        distiller = keras_distill.Distiller(student=model(1), teacher=model(7))
        distiller.compile(
            keras.optimizers.SGD(0.1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return distiller.fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, cache=False
    ).history


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
json.dump(
    [train(contextlib.nullcontext()), train(strategy.scope())],
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
    single, mirrored = json.loads(path.read_text())
    assert set(single) == {
        "accuracy",
        "alpha",
        "hard_loss",
        "loss",
        "soft_loss",
        "temperature",
    }
    for name, values in single.items():
        assert mirrored[name] == pytest.approx(values, rel=1e-5), name

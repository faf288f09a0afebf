"""Trains as one of several workers, and prints what came out as JSON.

Started by `test_distribution.py`, in a process for each worker.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=1)
parser.add_argument("--index", type=int, default=0)
parser.add_argument("--port", type=int)
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--steps-per-execution", type=int, default=1)
parser.add_argument("--backup", type=pathlib.Path)
parser.add_argument("--die-in-epoch", type=int)
parser.add_argument("--nan-for", type=int)
arguments = parser.parse_args()

on_jax = os.environ.get("KERAS_BACKEND") == "jax"
if on_jax:
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={arguments.devices}"
    )
    import jax

    if arguments.workers > 1:
        jax.distributed.initialize(
            f"127.0.0.1:{arguments.port}", arguments.workers, arguments.index
        )
elif arguments.workers > 1:
    config = {
        "cluster": {
            "worker": [
                f"127.0.0.1:{arguments.port + index}"
                for index in range(arguments.workers)
            ]
        },
        "task": {"type": "worker", "index": arguments.index},
    }
    os.environ["TF_CONFIG"] = json.dumps(config)

import keras  # noqa: E402
import numpy as np  # noqa: E402

BATCH, FEATURES, CLASSES = 16, 6, 5


def make_model(seed):
    """Returns a model with the weights of a seed, on every backend."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)]
    )
    model.set_weights(
        [rng.normal(size=weight.shape) for weight in model.get_weights()]
    )
    return model


class OwnPart(keras.utils.PyDataset):
    """What one worker has of each batch."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // BATCH

    def __getitem__(self, index):
        share = BATCH // arguments.workers
        start = BATCH * index + share * arguments.index
        rows = slice(start, start + share)
        return self.x[rows], self.y[rows]


class Die(keras.callbacks.Callback):
    """Kills its own process, as no Python code can prevent it."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == arguments.die_in_epoch and batch > 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def find_scope():
    """Returns the context in which the model is made."""
    if on_jax:
        if arguments.workers * arguments.devices > 1:
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(
                    devices=keras.distribution.list_devices(),
                    auto_shard_dataset=False,
                )
            )
        return contextlib.nullcontext()
    if arguments.workers == 1:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy().scope()


def main():
    # JAX wants the same values in every process, before others are set.
    keras.utils.set_random_seed(0)
    scope = find_scope()
    import keras_distill

    x = np.random.default_rng(0).normal(size=(64, FEATURES)).astype("float32")
    if arguments.nan_for == arguments.index:
        # In what each worker takes of the second batch.
        x[BATCH : 2 * BATCH, 0] = np.nan
    y = np.eye(CLASSES, dtype="float32")[np.arange(64) % CLASSES]
    with scope:
        distiller = keras_distill.Distiller(
            student=make_model(1), teacher=make_model(7)
        )
        distiller.compile(
            # Unlike Adam, it does not hide gradients that are wrong by a
            # factor. The momentum is what a restart has to restore, too.
            keras.optimizers.SGD(0.1, momentum=0.9),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            # One number, and one for each class.
            metrics=["accuracy", keras.metrics.F1Score()],
            distillation_metrics=["teacher_agreement"],
            steps_per_execution=arguments.steps_per_execution,
        )
    callbacks = []
    if arguments.backup:
        folder = arguments.backup
        if arguments.index:
            # The first worker writes for all.
            folder = pathlib.Path(tempfile.mkdtemp()) / "backup"
            if arguments.backup.exists():
                shutil.copytree(arguments.backup, folder)
        callbacks.append(keras.callbacks.BackupAndRestore(folder))
    if arguments.die_in_epoch is not None and arguments.index == 1:
        callbacks.append(Die())
    data = (OwnPart(x, y), None) if on_jax else (x, y)
    validation_data = data[0] if on_jax else data
    history = distiller.fit(
        *data,
        batch_size=None if on_jax else BATCH,
        epochs=3,
        shuffle=False,
        verbose=0,
        cache=False,
        validation_data=validation_data,
        callbacks=callbacks,
    ).history
    weights = [
        keras.ops.convert_to_numpy(weight).tolist()
        for weight in distiller.student.weights
    ]
    history = {
        name: np.asarray(values).tolist() for name, values in history.items()
    }
    json.dump({"history": history, "weights": weights}, sys.stdout)
    sys.stdout.flush()


main()

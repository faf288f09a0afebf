"""Training on several devices is training on one."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

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
    history = distiller.fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, cache=False
    ).history
    # With plain gradient descent, the sum of the gradients.
    weights = distiller.student.get_weights()
    return history, [weight.tolist() for weight in weights]


def train_unevenly(scope):
    # The last batch has 13 examples. One device would come to other weights:
    # Keras takes the mean of what the devices have as their means. So a model
    # of Keras trains beside it, with the same loss written down as one.
    rows = slice(61)
    weights = np.linspace(0.5, 2.0, 61)
    teacher_logits = model(7).predict(x[rows], verbose=0)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    soft = keras_distill.losses.LogitMatching()

    def both(targets, z):
        return 0.3 * hard.call(targets[:, 5], z) + 0.7 * soft.call(
            targets[:, :5], z
        )

    with scope:
        distiller = keras_distill.Distiller(student=model(1), teacher=model(7))
        distiller.compile(
            keras.optimizers.SGD(0.1),
            loss=hard,
            distillation_loss=soft,
            alpha=0.7,
        )
        plain = model(1)
        plain.compile(keras.optimizers.SGD(0.1), loss=both)
    arguments = dict(
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
        sample_weight=weights,
    )
    results = []
    for each, student, targets, others in (
        (distiller, distiller.student, y[rows], {"cache": False}),
        (plain, plain, np.column_stack([teacher_logits, y[rows]]), {}),
    ):
        history = each.fit(x[rows], targets, **arguments, **others).history
        trained = [weight.tolist() for weight in student.get_weights()]
        results.append((history["loss"], trained))
    return results


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
json.dump(
    {
        "even": [
            train(contextlib.nullcontext()),
            train(strategy.scope()),
            train(strategy.scope(), Subclassed),
        ],
        "uneven": train_unevenly(strategy.scope()),
    },
    open(sys.argv[1], "w"),
)
"""


@pytest.mark.backend("tensorflow", reason="tf.distribute needs TensorFlow")
def test_mirrored_strategy(tmp_path):
    path = tmp_path / "histories.json"
    subprocess.run(
        [sys.executable, "-c", TRAIN, str(path)],
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    results = json.loads(path.read_text())
    (single, weights), *others = results["even"]
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
    # A replica can make no metrics: they are there before, also of a student
    # that was not built.
    for history, theirs in others:
        for name, values in single.items():
            assert history[name] == pytest.approx(values, rel=1e-5), name
        for ours, expected in zip(theirs, weights, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    (loss, ours), (expected_loss, theirs) = results["uneven"]
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for weight, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)


SCRIPT = pathlib.Path(__file__).with_name("train_distributed.py")


def find_port():
    """Returns a port that is free, as is the one after it."""
    for port in range(20000 + os.getpid() % 10000, 60000, 7):
        with contextlib.ExitStack() as stack:
            try:
                for number in (port, port + 1):
                    each = stack.enter_context(socket.socket())
                    each.bind(("127.0.0.1", number))
            except OSError:
                continue
            return port
    raise RuntimeError("No port is free.")


def start(workers, *arguments, **kwargs):
    port = find_port()
    return [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                *("--workers", str(workers), "--index", str(index)),
                *("--port", str(port), *map(str, arguments)),
            ],
            env={
                **os.environ,
                "KERAS_BACKEND": keras.backend.backend(),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdout=subprocess.PIPE,
            **kwargs,
        )
        for index in range(workers)
    ]


def train(workers, *arguments):
    """Returns what each worker says of its training."""
    processes = start(workers, *arguments)
    results = []
    try:
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0
            results.append(json.loads(output.splitlines()[-1]))
    finally:
        for process in processes:
            process.kill()
    return results


def assert_same(workers, expected):
    for worker in workers:
        assert set(worker["history"]) == set(expected["history"])
        for name, values in expected["history"].items():
            np.testing.assert_allclose(
                worker["history"][name], values, rtol=1e-5, err_msg=name
            )
        for ours, theirs in zip(
            worker["weights"], expected["weights"], strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.backend("tensorflow", reason="tf.distribute needs TensorFlow")
def test_multi_worker_mirrored_strategy():
    """Two processes train as one does, also where 4 steps are 3 and a rest."""
    arguments = ("--steps-per-execution", 3)
    (single,) = train(1, *arguments)
    assert_same(train(2, *arguments), single)


@pytest.mark.backend(
    "tensorflow", "jax", reason="`fit` runs in one process on PyTorch"
)
def test_a_killed_worker(tmp_path):
    """All are started again, and end where an undisturbed training ends."""
    (single,) = train(1)
    backup = ("--backup", tmp_path / "backup")
    first, second = start(2, *backup, "--die-in-epoch", 1)
    assert second.wait(timeout=300) == -signal.SIGKILL
    # It waits for the other one.
    first.kill()
    first.wait()
    assert list((tmp_path / "backup").iterdir())
    resumed = train(2, *backup)
    for worker in resumed:
        # The first epoch was before.
        assert len(worker["history"]["loss"]) == 2
    expected = {
        "history": {
            name: values[1:] for name, values in single["history"].items()
        },
        "weights": single["weights"],
    }
    assert_same(resumed, expected)


@pytest.mark.backend("jax", reason="keras.distribution needs JAX")
@pytest.mark.parametrize(
    ("workers", "devices", "steps_per_execution"),
    [(1, 2, 1), (2, 1, 3)],
)
def test_data_parallel(workers, devices, steps_per_execution):
    """Two devices of one process, and two processes of one device."""
    arguments = ("--steps-per-execution", steps_per_execution)
    (single,) = train(1, *arguments)
    assert_same(train(workers, *arguments, "--devices", devices), single)


@pytest.mark.backend("jax", reason="keras.distribution needs JAX")
def test_nan_in_one_process_stops_all_processes():
    """Neither waits for the other, and both say why."""
    processes = start(2, "--nan-for", 1, stderr=subprocess.PIPE)
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 1
            assert b"ValueError: The soft targets are not finite" in errors
    finally:
        for process in processes:
            process.kill()

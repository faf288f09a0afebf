"""All backends of Keras compute the same losses.

This test needs the environments that `make test-backends` creates, and it runs
only there.
"""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]

THREE_STEPS = """
import json, sys
import keras
import numpy as np
import keras_distill

rng = np.random.default_rng(0)
x = rng.normal(size=(24, 6)).astype("float32")
y = rng.integers(0, 5, 24)


def model(*widths):
    layers = [keras.layers.Dense(width, "tanh") for width in widths]
    made = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(5)])
    made.set_weights([
        rng.normal(size=weight.shape).astype("float32")
        for weight in made.get_weights()
    ])
    return made


teacher = [model(8), model(9)]
student = model(7)
distiller = keras_distill.Distiller(student=student, teacher=teacher)
distiller.compile(
    keras.optimizers.Adam(0.01),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    distillation_loss=[
        keras_distill.losses.SoftTargetCrossentropy(4.0),
        keras_distill.losses.SoftTargetKLDivergence(4.0),
    ],
    metrics=["accuracy"],
    distillation_metrics=["teacher_agreement"],
)
logs = [
    distiller.train_on_batch(
        x[start : start + 8], y[start : start + 8], return_dict=True
    )
    for start in (0, 8, 16)
]
weights = [float(np.abs(weight).sum()) for weight in student.get_weights()]
print(json.dumps([
    keras.backend.backend(),
    [{name: float(value) for name, value in each.items()} for each in logs],
    weights,
]))
"""


def test_backends_agree():
    """Three steps from the same weights give the same losses."""
    results = {}
    for backend in ("jax", "tensorflow", "torch"):
        folder = ".venv" if backend == "tensorflow" else f".venv-{backend}"
        python = ROOT / folder / "bin" / "python"
        done = subprocess.run(
            [python, "-c", THREE_STEPS],
            env={**os.environ, "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            check=True,
        )
        name, *result = json.loads(done.stdout.splitlines()[-1])
        assert name == backend
        results[backend] = result
    expected_logs, expected_weights = next(iter(results.values()))
    for logs, weights in results.values():
        for ours, expected in zip(logs, expected_logs, strict=True):
            assert ours == pytest.approx(expected, rel=1e-5)
        assert weights == pytest.approx(expected_weights, rel=1e-5)

"""The exported student runs where nobody has heard of keras_distill."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_distill
from markers import saved_model

pytestmark = pytest.mark.compiled

SERVE = """
import importlib.abc
import sys


class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "keras_distill":
            raise ImportError(name + " is not to be imported here")


sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

try:
    import keras_distill
except ImportError:
    pass
else:
    raise AssertionError("keras_distill can be imported")
x = np.load("x.npy")
for name in ("distiller", "student"):
    model = tf.saved_model.load(name)
    np.save(f"{name}.npy", model.serve(x).numpy())
"""


@pytest.fixture
def distiller(data, make_model):
    student = make_model(seed=1)
    student.add(keras_distill.TemperatureSoftmax(4.0))
    distiller = keras_distill.Distiller(
        student=student, teacher=make_model(seed=5)
    )
    distiller.compile("adam")
    distiller.fit(data[0], verbose=0)
    return distiller


@saved_model
@pytest.mark.slow
def test_saved_model_in_a_fresh_process(distiller, data, tmp_path):
    distiller.export(tmp_path / "distiller", verbose=False)
    distiller.student.export(tmp_path / "student", verbose=False)
    np.save(tmp_path / "x.npy", data[0])
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVE)],
        check=True,
        cwd=tmp_path,
    )
    expected = distiller.predict(data[0], verbose=0)
    for name in ("distiller", "student"):
        np.testing.assert_allclose(
            np.load(tmp_path / f"{name}.npy"), expected, rtol=1e-6
        )
    np.testing.assert_allclose(expected.sum(-1), 1.0, rtol=1e-5)


@saved_model
def test_saved_model_is_as_small_as_the_student(distiller, tmp_path):
    distiller.export(tmp_path / "student", verbose=False)
    variables = tmp_path / "student" / "variables"
    size = sum(file.stat().st_size for file in variables.iterdir())
    assert size < 4 * distiller.student.count_params() + 3000


@pytest.mark.backend(
    "tensorflow", reason="Keras exports LiteRT from TensorFlow"
)
def test_litert(distiller, data, tmp_path):
    path = tmp_path / "student.tflite"
    distiller.export(path, format="litert", verbose=False)
    interpreter = Interpreter(model_path=str(path))
    inputs = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(inputs, data[0].shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(inputs, data[0])
    interpreter.invoke()
    np.testing.assert_allclose(
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]),
        distiller.predict(data[0], verbose=0),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.backend("tensorflow", reason="tf2onnx converts TensorFlow models")
def test_onnx(distiller, data, tmp_path):
    path = tmp_path / "student.onnx"
    distiller.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (predictions,) = session.run(None, {session.get_inputs()[0].name: data[0]})
    np.testing.assert_allclose(
        predictions,
        distiller.predict(data[0], verbose=0),
        rtol=1e-4,
        atol=1e-6,
    )


def test_unknown_format(distiller, tmp_path):
    with pytest.raises(ValueError, match="lite_rt"):
        distiller.export(tmp_path / "student", format="lite_rt")


def test_export_of_a_student_that_is_not_built(tmp_path):
    student = keras.Sequential([keras.layers.Dense(5)])
    distiller = keras_distill.Distiller(student=student)
    with pytest.raises(ValueError, match="is not built"):
        distiller.export(tmp_path / "student")

"""Runs every code block in the documentation and in the docstrings.

The blocks of a document run one after another and share their names. They
start from a small student and teacher, and data for them.
"""

import os
import pathlib

import pytest
import sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.myst import PythonCodeBlockParser as MystCodeBlockParser

# All tests in these folders run in `make test-all` only.
_SLOW = (
    "docs",
    "reproductions",
    "tests/benchmarks",
    "tests/docs",
    "tests/examples",
    "tests/fuzz",
)


def pytest_addoption(parser):
    parser.addoption(
        "--compile",
        action="store_true",
        help="compile the steps in all tests, not only in those marked so",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    root = pathlib.Path(__file__).parent
    folders = [root / folder for folder in _SLOW]
    for item in items:
        if any(folder in item.path.parents for folder in folders):
            item.add_marker("slow")


def _prepare(namespace):
    # Imported late: collecting tests does not need TensorFlow.
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_distill

    def model(units):
        return keras.Sequential(
            [
                keras.Input((784,)),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(10),
            ]
        )

    keras.utils.set_random_seed(0)
    student, teacher = model(16), model(64)
    x = np.random.default_rng(0).normal(size=(64, 784)).astype("float32")
    y = np.arange(64) % 10
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile("adam")
    namespace.update(
        keras=keras,
        keras_distill=keras_distill,
        student=student,
        teacher=teacher,
        first=model(8),
        second=model(8),
        distiller=distiller,
        x=x,
        y=y,
        x_test=x,
        y_test=y,
        unlabelled_x=x,
        teacher_logits=teacher.predict(x, verbose=0),
        tf_dataset=tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
    )


def _in_an_empty_folder(namespace):
    import tempfile

    _prepare(namespace)
    namespace["_folder"] = tempfile.TemporaryDirectory()
    namespace["_former"] = os.getcwd()
    os.chdir(namespace["_folder"].name)


def _leave_the_folder(namespace):
    os.chdir(namespace["_former"])
    namespace["_folder"].cleanup()


_markdown = sybil.Sybil(
    # That of MyST also knows blocks that a page does not show.
    parsers=[MystCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    setup=_in_an_empty_folder,
    teardown=_leave_the_folder,
)
_docstrings = sybil.Sybil(
    parsers=[PythonCodeBlockParser()],
    path="keras_distill",
    pattern="**/*.py",
    document_types={".py": PythonDocStringDocument},
    setup=_in_an_empty_folder,
    teardown=_leave_the_folder,
)
pytest_collect_file = (_markdown + _docstrings).pytest()

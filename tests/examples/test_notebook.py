import base64
import io
import json
import pathlib

import matplotlib.image
import nbclient
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from nbformat.v4 import new_code_cell

PATH = pathlib.Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
# Measures the networks anew, by other means than the notebook.
MEASURE = """
import json


def count_errors(model):
    classes = model.predict(x_test, verbose=0).argmax(axis=-1)
    return int(np.sum(classes != y_test))


networks = {"teacher": teacher, "alone": alone, "student": student}
train, test = ({image.tobytes() for image in part} for part in (x, x_test))
measured = {
    "labelled": int(np.sum(y_hidden != -1)),
    "in_both": len(train & test),
    "errors": {name: count_errors(model) for name, model in networks.items()},
    "parameters": student.count_params(),
    "images": x_test[:5].tolist(),
    "logits": student.predict(x_test[:5], verbose=0).tolist(),
}
print(json.dumps(measured))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def notebook(folder):
    """The notebook with its outputs, and with one more cell that measures.

    The cell that installs the packages has the tag `skip-execution`, which
    nbclient knows and Colab does not.
    """
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells.append(new_code_cell(MEASURE))
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


@pytest.fixture(scope="module")
def measured(notebook):
    return json.loads(read_text(notebook.cells[-1]))


def read_text(cell):
    """Returns what a cell has printed."""
    return "".join(
        output.text
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def find_cell(notebook, text):
    """Returns the cell of the notebook that has the text."""
    (cell,) = (c for c in notebook.cells[:-1] if text in c.source)
    return cell


def test_is_stored_without_outputs():
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs for cell in code)
    assert all(cell.execution_count is None for cell in code)


def test_only_the_installation_is_skipped(notebook):
    skipped = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.execution_count is None
    ]
    extras = "'keras-distill[plots,tensorflow]'"
    assert skipped == [f"%pip install -q {extras} scikit-learn"]


def test_distilled_student_is_better(measured):
    errors = measured["errors"]
    assert errors["teacher"] < errors["student"] < errors["alone"]
    # Not by luck: it makes less than half of the errors.
    assert errors["student"] < errors["alone"] / 2


def test_data_are_what_the_text_says(measured):
    assert measured["labelled"] == 100
    assert measured["in_both"] == 0


def test_table_has_the_errors(notebook, measured):
    (table,) = (
        output.data["text/markdown"]
        for output in find_cell(notebook, "keras_distill.compare").outputs
        if "text/markdown" in output.get("data", {})
    )
    heading, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
    )
    errors = heading.index("errors of 500")
    assert [int(row[errors]) for row in rows] == [
        measured["errors"][name] for name in ("teacher", "alone", "student")
    ]
    parameters = heading.index("parameters")
    assert rows[2][parameters] == f"{measured['parameters']:,}"


def test_the_difference_is_no_chance(notebook):
    (output,) = find_cell(notebook, "report.mcnemar").outputs
    p_value = float(output.data["text/plain"].rpartition("=")[2].rstrip(")"))
    assert p_value < 0.001


def test_soft_targets_are_drawn(notebook):
    outputs = find_cell(notebook, "plots.soft_targets").outputs
    (png,) = (
        output.data["image/png"]
        for output in outputs
        if "image/png" in output.get("data", {})
    )
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(png)))
    assert picture.shape[1] > 600
    # The bars of the true class and of the others, and the ink of the digit.
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10


def test_exported_student_is_the_trained_one(notebook, measured, folder):
    printed = read_text(find_cell(notebook, "student.export"))
    assert float(printed.split()[-1]) < 1e-4
    exported = tf.saved_model.load(folder / "student")
    np.testing.assert_allclose(
        exported.serve(np.asarray(measured["images"], "float32")),
        measured["logits"],
        atol=1e-4,
    )

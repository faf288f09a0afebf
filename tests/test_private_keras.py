"""Private Keras is used in one file only."""

import ast
import pathlib

import keras
import pytest

import keras_distill

PACKAGE = pathlib.Path(keras_distill.__file__).parent
COMPAT = PACKAGE / "backend" / "keras_compat.py"
FILES = sorted(set(PACKAGE.rglob("*.py")) - {COMPAT})


def find_private_members():
    """Returns the underscore members of the classes and objects of Keras."""
    layer = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile("sgd", "mse", metrics=["mae"])
    objects = [
        model,
        keras.Model(model.inputs, model.outputs),
        layer,
        model.optimizer,
        layer.kernel,
        model.outputs[0],
        keras.losses.MeanSquaredError(),
        keras.metrics.Mean(),
        keras.callbacks.CallbackList(),
        keras.utils.Progbar(1),
    ]
    return {
        name
        for instance in objects
        for name in [*dir(type(instance)), *vars(instance)]
        if name.startswith("_") and not name.startswith("__")
    }


PRIVATE = find_private_members()
# Attributes of classes of this package, which have the name of one of Keras.
OWN = {"_lock", "_name", "_path", "_value", "_variables"}


def find_uses(tree):
    """Returns the private names of Keras in a syntax tree, with their lines."""
    uses = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = []
        uses += [(node.lineno, n) for n in names if n.startswith("keras.src")]
        if isinstance(node, ast.Attribute):
            if node.attr in PRIVATE - OWN:
                uses.append((node.lineno, node.attr))
            if ast.unparse(node) == "keras.src":
                uses.append((node.lineno, "keras.src"))
        if isinstance(node, ast.FunctionDef) and node.name in PRIVATE:
            uses.append((node.lineno, node.name))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr")
            and isinstance(node.args[1], ast.Constant)
            and node.args[1].value in PRIVATE
        ):
            uses.append((node.lineno, node.args[1].value))
    return uses


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_private_keras_elsewhere(path):
    assert find_uses(ast.parse(path.read_text())) == []


def test_private_keras_would_be_seen():
    assert "_flatten_layers" in PRIVATE
    assert "_keras_history" in PRIVATE
    assert find_uses(ast.parse(COMPAT.read_text()))
    for code in (
        "import keras.src.losses",
        "from keras import src",
        "keras.src.backend.compute_output_spec",
        "self._compile_loss = 1",
        "model._flatten_layers()",
        "getattr(tensor, '_keras_history')",
        "class A(keras.Model):\n    def _symbolic_build(self): pass",
    ):
        assert find_uses(ast.parse(code)), code

"""Calls of every public name, each with one wrong argument.

The arguments come from the signatures. A call either returns, and then its
argument is one that the documentation allows, or raises an error on purpose.
"""

import contextlib
import functools
import inspect
import math
import numbers
import pathlib
import tempfile
import typing
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import keras_distill
from fuzz import errors
from keras_distill import calibration
from keras_distill import losses
from keras_distill import metrics
from keras_distill import plots

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
Y = np.arange(12) % 3
LOGITS = X[:, :3]
# It is removed when the process ends.
_FOLDER = tempfile.TemporaryDirectory(prefix="keras_distill_fuzz_")


class Call(typing.NamedTuple):
    """A public function and arguments that it accepts."""

    function: typing.Callable
    arguments: typing.Callable
    # Whose signature has all arguments, where `function` takes any.
    signature: typing.Any = None


@functools.cache
def _model(seed=0):
    initializer = keras.initializers.RandomNormal(seed=seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(3, kernel_initializer=initializer),
        ]
    )


def _distiller(**arguments):
    distiller = keras_distill.Distiller(
        student=keras.models.clone_model(_model()), teacher=_model(1)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(**{"optimizer": "sgd", "loss": loss, **arguments})
    return distiller


def _compile(**arguments):
    _distiller(**arguments).train_on_batch(X, Y)


def _create(**arguments):
    with tempfile.TemporaryDirectory() as folder:
        return keras_distill.SoftTargetStore.create(
            path=pathlib.Path(folder) / "store", **arguments
        )


@functools.cache
def _store():
    return keras_distill.SoftTargetStore.create(
        f"{_FOLDER.name}/store", _model(1), X, verbose=0
    )


def _attach(**arguments):
    return list(_store().attach(**arguments))


def _call(made, *inputs):
    """Returns a function that makes an object and calls it."""
    return lambda **arguments: made(**arguments)(*inputs)


def _update(made, *inputs):
    """Returns a function that makes a metric and adds a batch to it."""

    def function(**arguments):
        metric = made(**arguments)
        metric.update_state(*inputs)
        return metric.result()

    return function


@functools.cache
def _comparison():
    return keras_distill.compare(
        {"a": _model(), "b": _model(2)},
        (X, Y),
        latency_batch_sizes=(),
        verbose=0,
    )


def _pack(**arguments):
    packed = keras_distill.WithSoftTargets(**arguments)
    return _distiller().fit(packed, Y, verbose=0)


def _nothing():
    return {}


_FIT = {"x": X, "y": Y, "verbose": 0}
_SERIES = {"a": {1.0: [3, 4], 2.0: [2, 3]}}
CALLS = {
    **{
        f"losses.{name}": Call(
            _call(getattr(losses, name), LOGITS, LOGITS[::-1]),
            _nothing,
            getattr(losses, name),
        )
        for name in losses.__all__
        if name not in ("DistillationLoss", "get")
    },
    **{
        f"losses.{name}()": Call(
            getattr(losses, name)(),
            lambda: {"y_true": LOGITS, "y_pred": LOGITS},
        )
        for name in losses.__all__
        if name not in ("DistillationLoss", "get")
    },
    **{
        f"metrics.{name}": Call(
            _update(getattr(metrics, name), LOGITS, LOGITS[::-1]),
            _nothing,
            getattr(metrics, name),
        )
        for name in (
            "TeacherAgreement",
            "TeacherKLDivergence",
            "SoftTargetEntropy",
        )
    },
    **{
        f"metrics.{name}": Call(
            _update(getattr(metrics, name), Y, LOGITS),
            _nothing,
            getattr(metrics, name),
        )
        for name in ("BrierScore", "ExpectedCalibrationError")
    },
    "metrics.BrierScore.update_state": Call(
        metrics.BrierScore().update_state,
        lambda: {"y_true": Y, "y_pred": LOGITS},
    ),
    "metrics.TeacherAgreement.update_state": Call(
        metrics.TeacherAgreement().update_state,
        lambda: {"y_true": LOGITS, "y_pred": LOGITS},
    ),
    "losses.get": Call(losses.get, lambda: {"identifier": "logit_matching"}),
    "metrics.get": Call(
        metrics.get, lambda: {"identifier": "teacher_agreement"}
    ),
    "Distiller": Call(
        lambda **arguments: keras_distill.Distiller(**arguments),
        lambda: {"student": _model(), "teacher": _model(1)},
        keras_distill.Distiller,
    ),
    "Distiller.compile": Call(
        _compile, _nothing, keras_distill.Distiller.compile
    ),
    "Distiller.fit": Call(
        lambda **arguments: _distiller().fit(**arguments),
        lambda: dict(_FIT),
        keras_distill.Distiller.fit,
    ),
    "Distiller.evaluate": Call(
        lambda **arguments: _distiller().evaluate(**arguments),
        lambda: dict(_FIT),
        keras_distill.Distiller.evaluate,
    ),
    "SoftTargetStore.create": Call(
        _create,
        lambda: {
            "teacher": _model(1),
            "dataset": X,
            "verbose": 0,
        },
        keras_distill.SoftTargetStore.create,
    ),
    "SoftTargetStore.attach": Call(
        _attach,
        lambda: {"dataset": (X, Y)},
        keras_distill.SoftTargetStore.attach,
    ),
    "Ensemble": Call(
        _call(keras_distill.Ensemble, X),
        lambda: {"models": [_model(), _model(1)]},
        keras_distill.Ensemble,
    ),
    "TemperatureSoftmax": Call(
        _call(keras_distill.TemperatureSoftmax, LOGITS),
        _nothing,
        keras_distill.TemperatureSoftmax,
    ),
    "WithSoftTargets": Call(
        _pack,
        lambda: {"inputs": X, "soft_targets": LOGITS},
        keras_distill.WithSoftTargets,
    ),
    "compare": Call(
        keras_distill.compare,
        lambda: {
            "models": {"a": _model()},
            "data": (X, Y),
            "latency_batch_sizes": (),
            "verbose": 0,
        },
    ),
    "Comparison.mcnemar": Call(
        lambda **arguments: _comparison().mcnemar(**arguments),
        lambda: {"first": "a", "second": "b"},
        keras_distill.Comparison.mcnemar,
    ),
    "summarize": Call(
        keras_distill.summarize, lambda: {"reports": [_comparison()] * 2}
    ),
    "predict_logits": Call(
        keras_distill.predict_logits,
        lambda: {"model": _model(), "x": X, "verbose": 0},
    ),
    "suggest_temperature": Call(
        keras_distill.suggest_temperature,
        lambda: {"teacher": _model(), "x": X},
    ),
    "top_k_targets": Call(
        keras_distill.top_k_targets, lambda: {"logits": LOGITS, "k": 2}
    ),
    "calibration.match_class_prior": Call(
        calibration.match_class_prior,
        lambda: {"model": _model(), "x": X, "verbose": 0},
    ),
    "calibration.shift_class_bias": Call(
        calibration.shift_class_bias,
        lambda: {"model": _model(), "shifts": {0: 1.0}},
    ),
    "plots.accuracy_against_size": Call(
        plots.accuracy_against_size, lambda: {"report": _comparison()}
    ),
    "plots.class_similarity": Call(
        plots.class_similarity, lambda: {"logits": LOGITS}
    ),
    "plots.reliability_diagram": Call(
        plots.reliability_diagram, lambda: {"logits": LOGITS, "labels": Y}
    ),
    "plots.soft_targets": Call(plots.soft_targets, lambda: {"logits": LOGITS}),
    "plots.learning_curves": Call(
        plots.learning_curves,
        lambda: {"history": {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}},
    ),
    **{
        f"plots.error_against_{name}": Call(
            getattr(plots, f"error_against_{name}"),
            lambda: {"errors": _SERIES},
        )
        for name in ("examples", "learning_rate", "temperature")
    },
    "plots.gradient_cosine": Call(
        plots.gradient_cosine, lambda: {"cosines": _SERIES}
    ),
}

# Arguments that are passed on: to Keras, to Matplotlib or to the file system.
PASSED_ON = {
    "self",
    *("name", "dtype", "reduction", "filepath", "path", "format", "callbacks"),
    *("inputs", "ylabel", "TemperatureSoftmax.axis"),
    *("Distiller.fit.verbose", "Distiller.evaluate.verbose"),
    "Distiller.evaluate.sample_weight",
    *("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics"),
    *("run_eagerly", "steps_per_execution", "jit_compile", "kwargs"),
    *("auto_scale_loss", "epochs", "initial_epoch", "shuffle", "return_dict"),
    *("steps", "steps_per_epoch", "validation_steps", "validation_data"),
    *("validation_batch_size", "validation_freq", "validation_split"),
}

# Results of other functions, base classes, and a class with a path only.
UNCALLED = {
    "SoftTargetStore",
    *("Comparison", "ComparisonSummary", "McNemarTest", "ModelReport"),
    *("EnsembleTargets", "TopKTargets"),
    *("losses.DistillationLoss", "metrics.DistillationMetric"),
}

_ARRAY = np.zeros((12, 3), "float32")
_NAN = np.full((12, 6), np.nan, "float32")
VALUES = {
    repr(value): value
    for value in (
        *(None, True, False, 0, -1, 1, 2, 7, 10**30, 0.5, -0.5, 1e-50, 1e300),
        *(math.nan, math.inf, -math.inf, 1j, "", "x", "auto", "\0", b"x"),
        *([], [None], [-1], ["x"], (), (1,), {}, {"a": 1}, {0: "x"}),
        *(set(), {1}, int, range(3), np.float32(2.0), np.bool_(True)),
    )
} | {
    "a function": lambda *arguments, **options: None,
    "an object": object(),
    "a model": _model(5),
    "an empty array": np.zeros(0, "float32"),
    "no rows": np.zeros((0, 6), "float32"),
    "zeros of shape (12, 3)": _ARRAY,
    "NaN of shape (12, 6)": _NAN,
    "integers of shape (12,)": np.arange(12),
    "strings of shape (12,)": np.array(["x"] * 12),
    "objects of shape (12,)": np.array([None] * 12),
    "a scalar array": np.array(3.0),
    "a dataset": tf.data.Dataset.from_tensor_slices(X).batch(4),
    "an empty dataset": tf.data.Dataset.from_tensor_slices(X[:0]).batch(4),
    "a generator": (batch for batch in ()),
}


def _is_number(value, low, high):
    # A NumPy scalar is also a number.
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and low <= value <= high
    )


def _is_integer(value, low=-math.inf):
    return _is_number(value, low, math.inf) and int(value) == value


def _is_flag(value):
    return isinstance(value, (bool, np.bool_))


# Which values of an argument may be accepted, wherever it appears.
_ALLOWED: dict[str, typing.Callable] = {
    "temperature": lambda value: _is_number(value, 1e-3, 1e4),
    "serving_temperature": lambda value: _is_number(value, 1e-3, 1e4),
    "alpha": lambda value: value is None or _is_number(value, 0, 1),
    "share": lambda value: _is_number(value, 0, 1),
    "from_logits": lambda value: value is None or _is_flag(value),
    "teacher_from_logits": lambda value: value is None or _is_flag(value),
    "axis": lambda value: value is None or _is_integer(value),
    "num_bins": lambda value: _is_integer(value, 1),
    "k": lambda value: _is_integer(value, 1),
    "top_k": lambda value: value is None or _is_integer(value, 1),
    "views": lambda value: _is_integer(value, 1),
    "seed": _is_integer,
    "examples_per_shard": lambda value: value is None or _is_integer(value, 1),
    "batch_size": lambda value: value is None or _is_integer(value, 1),
    "name": lambda value: value is None or isinstance(value, str),
    "combine": lambda value: value in ("arithmetic", "geometric"),
    "cache": lambda value: _is_flag(value) or value == "auto",
    "check": lambda value: value in ("all", "first"),
    "verbose": lambda value: value in ("auto", 0, 1, 2),
    "teacher_id": lambda value: value is None or isinstance(value, str),
    "distillation_loss": lambda value: False,
}


@functools.cache
def _list_arguments() -> list[tuple[str, str]]:
    """Lists the names of `CALLS`, each with each argument to replace."""
    kinds = inspect.Parameter
    return [
        (name, parameter.name)
        for name, call in CALLS.items()
        for parameter in inspect.signature(
            call.signature or call.function
        ).parameters.values()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        and not PASSED_ON & {parameter.name, f"{name}.{parameter.name}"}
    ]


@contextlib.contextmanager
def _unfiltered():
    """Lets Keras show where it raises, and runs steps without compilation."""
    was_filtering = keras.config.is_traceback_filtering_enabled()
    was_eager = tf.config.functions_run_eagerly()
    keras.config.disable_traceback_filtering()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(was_eager)
        if was_filtering:
            keras.config.enable_traceback_filtering()


def run(seed: int) -> str:
    """Calls a public name with a wrong argument, and checks what happens."""
    rng = np.random.default_rng(seed)
    pairs = _list_arguments()
    name, argument = pairs[rng.integers(len(pairs))]
    call = CALLS[name]
    described, value = list(VALUES.items())[rng.integers(len(VALUES))]
    arguments = {**call.arguments(), argument: value}
    described = f"{name}({argument}={described})"
    try:
        with _unfiltered(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call.function(**arguments)
    except Exception as error:
        if errors.is_clear(error):
            return "refused"
        raise AssertionError(
            f"{described} raises an unclear {type(error).__name__}"
        ) from error
    finally:
        plt.close("all")
    is_allowed = _ALLOWED.get(argument, lambda value: True)
    assert is_allowed(value), f"{described} is accepted"
    return "accepted"

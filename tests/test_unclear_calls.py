"""Calls that ended in a raw error of TensorFlow, NumPy or Python."""

import re

import keras
import numpy as np
import pytest

import keras_distill
from keras_distill import losses
from keras_distill import metrics
from keras_distill import plots

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
Y = np.arange(12) % 3
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model(classes=3):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(classes)])


def fit(*args, **kwargs):
    distiller = keras_distill.Distiller(student=model(), teacher=model())
    distiller.compile("sgd", loss=SPARSE)
    distiller.fit(*args, **{"verbose": 0, **kwargs})


def compile_with(**kwargs):
    keras_distill.Distiller(student=model()).compile(**kwargs)


def create(**kwargs):
    keras_distill.SoftTargetStore.create(
        **{"path": "store", "teacher": model(), "dataset": X, **kwargs},
        verbose=0,
    )


def compare(**kwargs):
    return keras_distill.compare(
        {"a": model(), "b": model()},
        **{"data": (X, Y), "latency_batch_sizes": (), "verbose": 0, **kwargs},
    )


CALLS = {
    "softmax_of_integers": (
        lambda: keras_distill.TemperatureSoftmax(2.0)(np.ones((2, 3), int)),
        "floating point logits.*dtype int",
    ),
    "fit_none": (lambda: fit(None), "`x` to be given"),
    "fit_dict": (lambda: fit({}), "at least one example in `x`.*{}"),
    "fit_list": (lambda: fit([]), r"at least one example in `x`.*\[\]"),
    "class_weight_list": (
        lambda: fit(X, Y, class_weight=[1.0, 2.0, 3.0]),
        "`class_weight` to be a dict",
    ),
    "class_weight_names": (
        lambda: fit(X, Y, class_weight={"cat": 1.0}),
        "`class_weight` to be a dict",
    ),
    "weight_for_each_class": (
        lambda: fit(X, Y, sample_weight=np.ones((12, 3))),
        "a number for each sample",
    ),
    "batch_size": (lambda: fit(X, Y, batch_size="4"), "`batch_size`.*'4'"),
    "packed_validation": (
        lambda: fit(X, Y, validation_data=(X, {"soft_targets": X[:, :3]})),
        "Pass soft targets beside the inputs",
    ),
    "one_hot": (lambda: fit(X, np.eye(3)[Y]), "CategoricalCrossentropy"),
    "no_optimizer": (
        lambda: compile_with(optimizer=None),
        "`optimizer` to be given",
    ),
    "create_none": (lambda: create(dataset=None), "Expected data: arrays"),
    "predict_none": (
        lambda: keras_distill.predict_logits(model(), None),
        "Expected data: arrays",
    ),
    "compare_none": (lambda: compare(data=None), "Expected data: arrays"),
    "seed": (lambda: create(seed=10**30), "`seed` to be an integer"),
    "from_logits": (
        lambda: create(from_logits="no"),
        "`from_logits` to be True or False",
    ),
    "no_classes": (
        lambda: create(teacher=lambda x: x[:, :0], teacher_id="none"),
        r"Received: shape \(8, 0\)",
    ),
    "short_labels": (
        lambda: compare(data=(X, Y[:5])),
        r"same number of examples. Received: \[12, 5\]",
    ),
    "string_labels": (
        # On JAX and PyTorch, Keras refuses strings itself.
        lambda: compare(data=(X, np.array(["a"] * 12))),
        "class ids|Invalid dtype: str",
    ),
    "loss_none": (
        lambda: losses.LogitMatching()(None, X),
        "`y_true` to be given",
    ),
    "metric_none": (
        lambda: metrics.BrierScore().update_state(Y, None),
        "`y_pred` to be given",
    ),
    "metric_dtype": (
        lambda: metrics.TeacherAgreement(dtype="int32"),
        "a floating point dtype",
    ),
    "label_metric_dtype": (
        lambda: metrics.BrierScore(dtype="bool"),
        "a floating point dtype",
    ),
    "loss_weights": (
        lambda: losses.LogitMatching()(X, X, np.ones(5)),
        r"each sample, 12 in all. Received: shape \(5,\)",
    ),
    "metric_weights": (
        lambda: metrics.TeacherAgreement().update_state(X, X, np.ones(5)),
        r"each sample, 12 in all. Received: shape \(5,\)",
    ),
    "softmax_axis": (
        lambda: keras_distill.TemperatureSoftmax(axis="x"),
        "`axis` to be an integer",
    ),
    "top_k_none": (
        lambda: keras_distill.top_k_targets(None, 1),
        "`logits` to be given",
    ),
    "top_k_scalar": (
        lambda: keras_distill.top_k_targets(np.float32(3), 1),
        "Received: a scalar",
    ),
    "verbose": (
        lambda: keras_distill.predict_logits(model(), X, verbose="x"),
        "`verbose`.*'x'",
    ),
    "mcnemar": (lambda: compare().mcnemar(["a"], "b"), r"Received: \['a'\]"),
    "summarize": (
        lambda: keras_distill.summarize(None),
        "results of `compare`",
    ),
    "plot_axes": (lambda: plots.reliability_diagram(X, Y, ax=5), "`ax` to be"),
    "plot_nan": (
        lambda: plots.class_similarity(np.full((4, 3), np.nan)),
        "`logits` to be finite",
    ),
    "plot_none": (
        lambda: plots.accuracy_against_size(None),
        "the result of `compare`",
    ),
    "alpha": (
        lambda: keras_distill.Distiller(student=model(), alpha=0.5),
        r"Pass it to `compile\(alpha=\.\.\.\)`",
    ),
    "temperature": (
        lambda: compile_with(temperature=2.0),
        "Pass it to the loss",
    ),
    "student_loss_fn": (
        lambda: compile_with(student_loss_fn=SPARSE),
        r"`compile\(loss=",
    ),
    "distillation_losses": (
        lambda: compile_with(distillation_losses=[]),
        r"`compile\(distillation_loss=",
    ),
    "unknown": (lambda: compile_with(warm_up=3), "Unknown argument `warm_up`"),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unclear_call(name, tmp_path, monkeypatch):
    """The error names the argument and what was expected."""
    monkeypatch.chdir(tmp_path)
    call, message = CALLS[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert re.search(message, str(caught.value), re.DOTALL), caught.value


def test_outputs_may_be_named_soft_targets():
    """They train as outputs with other names."""

    def make(names, seed):
        initializer = keras.initializers.RandomNormal(seed=seed)
        inputs = keras.Input((6,))
        outputs = [
            keras.layers.Dense(3, kernel_initializer=initializer)(inputs)
            for _ in names
        ]
        return keras.Model(inputs, dict(zip(names, outputs, strict=True)))

    losses_of_runs = []
    for names in (("labels", "soft_targets"), ("a", "b")):
        distiller = keras_distill.Distiller(
            student=make(names, 1), teacher=make(names, 2)
        )
        distiller.compile("sgd", loss=dict.fromkeys(names, SPARSE))
        history = distiller.fit(
            X, dict.fromkeys(names, Y), epochs=2, shuffle=False, verbose=0
        )
        losses_of_runs.append(history.history["loss"])
    np.testing.assert_allclose(*losses_of_runs, rtol=1e-6)

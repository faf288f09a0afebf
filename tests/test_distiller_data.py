"""Every kind of transfer set trains to the same student."""

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

import keras_distill

BATCH = 8


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return count_batches(self.parts)

    def __getitem__(self, index):
        return batch(self.parts, index)


def count_batches(parts):
    return -(-len(keras.tree.flatten(parts)[0]) // BATCH)


def batch(parts, index):
    rows = slice(index * BATCH, (index + 1) * BATCH)
    taken = keras.tree.map_structure(lambda part: part[rows], parts)
    return taken if len(taken) > 1 else taken[0]


def generate(parts):
    for index in range(count_batches(parts)):
        yield keras.tree.map_structure(np.asarray, batch(parts, index))


def as_arguments(kind, *parts):
    """The arguments of `fit` for (x,), (x, y) or (x, y, sample_weight)."""
    if kind == "arrays":
        names = ["x", "y", "sample_weight"]
        return {
            **dict(zip(names, parts, strict=False)),
            "batch_size": BATCH,
        }
    if kind == "tf.data":
        dataset = tf.data.Dataset.from_tensor_slices(
            parts if len(parts) > 1 else parts[0]
        )
        return {"x": dataset.batch(BATCH)}
    if kind == "PyDataset":
        return {"x": Batches(*parts)}
    steps = count_batches(parts)
    if len(parts) == 1:
        return {
            "x": ((each,) for each in generate(parts)),
            **{"steps_per_epoch": steps},
        }
    return {"x": generate(parts), "steps_per_epoch": steps}


def distill(make_model, fit_arguments, *, teacher=True, labels=True):
    student = make_model(seed=1)
    distiller = keras_distill.Distiller(
        student=student, teacher=make_model(seed=5) if teacher else None
    )
    distiller.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if labels
        else None,
        metrics=["accuracy"] if labels else None,
    )
    history = distiller.fit(shuffle=False, verbose=0, **fit_arguments)
    return np.concatenate([w.ravel() for w in student.get_weights()]), history


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("labelled", marks=pytest.mark.compiled),
        "weighted",
        "unlabelled",
    ],
)
def test_kinds_of_data_agree(data, make_model, what):
    x, y = data
    weight = np.linspace(0, 2, len(x)).astype("float32")
    parts = {
        "labelled": (x, y),
        "weighted": (x, y, weight),
        "unlabelled": (x,),
    }[what]
    labels = what != "unlabelled"
    expected, history = distill(
        make_model, as_arguments("arrays", *parts), labels=labels
    )
    for kind in ("tf.data", "PyDataset", "generator"):
        weights, other = distill(
            make_model,
            as_arguments(kind, *parts),
            labels=labels,
        )
        assert_same_training(weights, other, expected, history)


def assert_same_training(weights, other, expected, history):
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert set(other.history) == set(history.history)
    for name, values in history.history.items():
        np.testing.assert_allclose(other.history[name], values, rtol=1e-5)


@pytest.mark.parametrize(
    "labels", [pytest.param(True, marks=pytest.mark.compiled), False]
)
def test_soft_targets_that_come_with_the_data(data, make_model, labels):
    x, y = data
    logits = make_model(seed=5).predict(x, verbose=0)
    expected, _ = distill(
        make_model,
        as_arguments("arrays", x, y),
        labels=labels,
    )
    inputs = keras_distill.WithSoftTargets(x, logits)
    parts = (inputs, y) if labels else (inputs,)
    for kind in ("arrays", "tf.data", "PyDataset", "generator"):
        weights, _ = distill(
            make_model,
            as_arguments(kind, *parts),
            teacher=False,
            labels=labels,
        )
        np.testing.assert_allclose(
            weights, expected, rtol=1e-5, atol=1e-6, err_msg=kind
        )


def test_soft_targets_of_the_data_go_before_the_teacher(data, make_model):
    x, _ = data

    def teacher(inputs):
        raise AssertionError("called")

    distiller = keras_distill.Distiller(student=make_model(), teacher=teacher)
    distiller.compile("sgd")
    logits = make_model(seed=5).predict(x, verbose=0)
    history = distiller.fit(x, soft_targets=logits, verbose=0)
    assert set(history.history) == {"loss", "soft_loss", "temperature"}


def test_unlabelled_training_and_labelled_validation(data, make_model):
    x, y = data
    distiller = keras_distill.Distiller(
        student=make_model(seed=1), teacher=make_model(seed=5)
    )
    distiller.compile(
        "sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        alpha=1.0,
        metrics=["accuracy"],
    )
    history = distiller.fit(
        x, validation_data=(x, y), epochs=2, verbose=0
    ).history
    assert set(history) == {
        "loss",
        "soft_loss",
        "val_loss",
        "val_hard_loss",
        "val_accuracy",
        "alpha",
        "temperature",
    }


def test_evaluation_with_soft_targets(data, make_model):
    x, y = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        alpha=0.8,
    )
    trained = distiller.fit(x, y, batch_size=BATCH, verbose=0).history
    logs = distiller.evaluate(
        x,
        y,
        soft_targets=teacher.predict(x, verbose=0),
        batch_size=BATCH,
        verbose=0,
        return_dict=True,
    )
    assert set(logs) == {"loss", "soft_loss", "hard_loss"}
    for name, value in logs.items():
        np.testing.assert_allclose(trained[name], [value], rtol=1e-5)


def test_evaluation_without_labels_after_alpha_changed(data, make_model):
    """Without labels, `loss` is not the loss of `compile`."""
    x, _ = data
    distiller = keras_distill.Distiller(student=make_model(seed=1))
    distiller.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        alpha=1.0,
    )
    how = {
        "soft_targets": make_model(seed=5).predict(x, verbose=0),
        "verbose": 0,
        "return_dict": True,
    }
    whole = distiller.evaluate(x, **how)
    assert whole["loss"] == pytest.approx(whole["soft_loss"])
    distiller.alpha = 0.5
    assert distiller.evaluate(x, **how) == {
        "soft_loss": pytest.approx(whole["soft_loss"])
    }


def make_masked_model(seed):
    """Logits of each of four positions, of which zeros do not count."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(5, 3, mask_zero=True),
            keras.layers.Dense(3),
        ]
    )


@pytest.mark.parametrize("cache", [True, False])
def test_weights_and_masks_are_those_of_each_loss(cache):
    """Keras multiplies weights with a mask in place, in PyTorch."""
    rng = np.random.default_rng(0)
    x = np.array([[1, 2, 3, 4], [1, 2, 0, 0], [3, 0, 0, 0]], "int32")
    y = rng.integers(0, 3, (3, 4))
    weight = rng.uniform(0.5, 2.0, (3, 4)).astype("float32")
    student, teacher = make_masked_model(0), make_masked_model(1)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    soft = keras_distill.losses.LogitMatching()
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        loss=hard,
        distillation_loss=[
            keras_distill.losses.SoftTargetKLDivergence(4.0),
            soft,
        ],
    )
    logs = distiller.fit(
        x, y, sample_weight=weight, verbose=0, cache=cache
    ).history
    z, v = (
        np.float64(model.predict(x, verbose=0)) for model in (student, teacher)
    )
    counts = x != 0

    def average(values):
        return np.sum((values * weight)[counts]) / counts.sum()

    log_q = z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))
    crossentropy = -np.take_along_axis(log_q, y[..., None], -1)[..., 0]
    assert logs["hard_loss"][0] == pytest.approx(
        average(crossentropy), rel=1e-5
    )
    gap = (z - z.mean(-1, keepdims=True)) - (v - v.mean(-1, keepdims=True))
    assert logs["logit_matching"][0] == pytest.approx(
        average(0.5 * np.mean(gap**2, axis=-1)), rel=1e-5
    )


def test_evaluation_with_weights(data, make_model):
    x, y = data
    distiller = keras_distill.Distiller(
        student=make_model(seed=1), teacher=make_model(seed=5)
    )
    distiller.compile("sgd", distillation_metrics=["teacher_kl_divergence"])
    weight = np.float32(np.arange(len(x)) == 0)
    first = distiller.evaluate(x[:1], y[:1], verbose=0, return_dict=True)
    found = distiller.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    name = "teacher_kl_divergence"
    assert found[name] == pytest.approx(first[name], rel=1e-5)
    # Keras drops the weights of data without a `y`.
    unlabelled = distiller.evaluate(
        x, sample_weight=weight, verbose=0, return_dict=True
    )
    assert unlabelled[name] == pytest.approx(first[name], rel=1e-5)
    distiller.optimizer.learning_rate = 0.0
    history = distiller.fit(
        x, validation_data=(x, None, weight), verbose=0
    ).history
    assert history[f"val_{name}"] == pytest.approx([first[name]], rel=1e-5)


def test_validation_data_in_a_list(data, make_model):
    """Keras takes it for a tuple."""
    x, y = data
    logs = []
    for kind in (tuple, list):
        distiller = keras_distill.Distiller(
            student=make_model(seed=1), teacher=make_model(seed=5)
        )
        distiller.compile("sgd", metrics=["accuracy"])
        validation_data = kind([x, y])
        logs.append(
            distiller.fit(
                x, shuffle=False, validation_data=validation_data, verbose=0
            ).history
        )
    assert logs[0]["val_accuracy"] == logs[1]["val_accuracy"]


def test_unlabelled_validation_is_refused_before_training(data, make_model):
    x, y = data
    student = make_model(seed=1)
    distiller = keras_distill.Distiller(
        student=student, teacher=make_model(seed=5)
    )
    distiller.compile("sgd", metrics=["accuracy"])
    before = student.get_weights()
    for unlabelled in (x, (x,)):
        dataset = tf.data.Dataset.from_tensor_slices(unlabelled).batch(BATCH)
        with pytest.raises(ValueError, match="`validation_data` with labels"):
            distiller.fit(x, validation_data=dataset, verbose=0)
    np.testing.assert_array_equal(student.get_weights()[0], before[0])
    labelled = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    assert (
        "val_accuracy"
        in distiller.fit(x, validation_data=labelled, verbose=0).history
    )


def test_sparse_inputs(data, make_model):
    """As Keras takes them. The teacher is called in each step."""
    x, y = data
    # Before 3.15 Keras stops at a last row without a number.
    x = np.where(x > 0, x, 0)
    weights = []
    for inputs in (scipy.sparse.csr_matrix(x), x):
        student = make_model(seed=1)
        distiller = keras_distill.Distiller(
            student=student, teacher=make_model(seed=5)
        )
        distiller.compile("sgd")
        distiller.fit(inputs, y, shuffle=False, verbose=0)
        weights.append(student.get_weights()[0])
        with pytest.raises(ValueError, match=r"needs dense arrays.*csr_matrix"):
            distiller.fit(scipy.sparse.csr_matrix(x), cache=True, verbose=0)
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-6)

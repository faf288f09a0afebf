"""Masks, several outputs and half precision, against values by hand."""

import keras
import numpy as np
import pytest

import keras_distill
import reference
from keras_distill import losses

TOKENS = np.array([[3, 1, 2, 0, 0], [4, 4, 0, 0, 0], [1, 2, 3, 4, 1]])
TEMPERATURE = 2.0


def embedding(seed):
    return keras.layers.Embedding(
        5,
        4,
        mask_zero=True,
        embeddings_initializer=keras.initializers.RandomNormal(seed=seed),
    )


def dense(classes, seed, name=None):
    return keras.layers.Dense(
        classes,
        name=name,
        kernel_initializer=keras.initializers.RandomNormal(
            stddev=20.0, seed=seed
        ),
    )


def tagger(seed):
    """One decision per token."""
    return keras.Sequential(
        [keras.Input((5,), dtype="int32"), embedding(seed), dense(3, seed)]
    )


def classifier(seed):
    """One decision per padded sequence."""
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            embedding(seed),
            keras.layers.GlobalAveragePooling1D(),
            dense(3, seed),
        ]
    )


@pytest.mark.compiled
def test_padded_positions_do_not_count():
    student, teacher = tagger(1), tagger(2)
    labels = np.array([[0, 1, 2, 0, 0], [1, 2, 0, 0, 0], [2, 2, 1, 0, 1]])
    z, v = (
        student.predict(TOKENS, verbose=0),
        teacher.predict(TOKENS, verbose=0),
    )
    real = TOKENS != 0
    soft = reference.crossentropy(v[real], z[real], TEMPERATURE).mean()
    hard = reference.hard_crossentropy(labels[real], z[real]).mean()
    accuracy = np.mean(z[real].argmax(-1) == labels[real])

    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
        alpha=0.6,
        weighted_metrics=["accuracy"],
    )
    logs = distiller.train_on_batch(TOKENS, labels, return_dict=True)
    np.testing.assert_allclose(logs["soft_loss"], soft, rtol=1e-5)
    np.testing.assert_allclose(logs["hard_loss"], hard, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 0.6 * soft + 0.4 * hard, rtol=1e-5)
    if keras.backend.backend() != "jax":
        # There Keras itself forgets the mask before it comes to metrics.
        np.testing.assert_allclose(logs["accuracy"], accuracy, rtol=1e-6)


def test_padded_positions_do_not_count_behind_a_softmax():
    """The logits in front of a softmax carry the mask of its output."""
    student, teacher = tagger(1), tagger(2)
    z, v = (
        student.predict(TOKENS, verbose=0),
        teacher.predict(TOKENS, verbose=0),
    )
    real = TOKENS != 0
    student.add(keras.layers.Activation("softmax"))
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
    )
    logs = distiller.train_on_batch(TOKENS, return_dict=True)
    np.testing.assert_allclose(
        logs["soft_loss"],
        reference.crossentropy(v[real], z[real], TEMPERATURE).mean(),
        rtol=1e-5,
    )


def test_padded_sequences():
    student, teacher = classifier(1), classifier(2)
    table = np.float64(student.layers[0].embeddings)
    means = np.stack([table[row[row != 0]].mean(0) for row in TOKENS])
    z = means @ np.float64(student.layers[2].kernel)
    v = teacher.predict(TOKENS, verbose=0)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
    )
    logs = distiller.train_on_batch(TOKENS, return_dict=True)
    np.testing.assert_allclose(
        logs["soft_loss"],
        reference.crossentropy(v, z, TEMPERATURE).mean(),
        rtol=1e-5,
    )


def two_outputs(seed, structure):
    inputs = keras.Input((6,))
    # The keys of a dict are what counts, not the names of the layers.
    names = ("shape", "color") if structure is list else ("one", "two")
    outputs = {
        "shape": dense(3, seed, names[0])(inputs),
        "color": dense(4, seed + 1, names[1])(inputs),
    }
    if structure is list:
        outputs = list(outputs.values())
    return keras.Model(inputs, outputs)


@pytest.fixture
def two_labels(data):
    x, y = data
    return x, {"shape": y % 3, "color": y % 4}


def expected_parts(student, teacher, x, labels):
    """Soft and hard losses by the name of the output."""
    z, v = student.predict(x, verbose=0), teacher.predict(x, verbose=0)
    if isinstance(z, list):
        z = dict(zip(labels, z, strict=True))
        v = dict(zip(labels, v, strict=True))
    soft = {
        name: reference.crossentropy(v[name], z[name], TEMPERATURE).mean()
        for name in labels
    }
    divergence = {
        name: reference.kl_divergence(v[name], z[name], TEMPERATURE).mean()
        for name in labels
    }
    hard = {
        name: reference.hard_crossentropy(labels[name], z[name]).mean()
        for name in labels
    }
    return soft, divergence, hard


@pytest.mark.parametrize("structure", [list, dict])
@pytest.mark.parametrize("how", ["one", "each", "one_of_two"])
def test_two_outputs(two_labels, structure, how):
    x, labels = two_labels
    student, teacher = two_outputs(1, structure), two_outputs(3, structure)
    soft, divergence, hard = expected_parts(student, teacher, x, labels)
    hard_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    crossentropy = losses.SoftTargetCrossentropy(TEMPERATURE)
    if how == "one":
        distillation_loss, weights = crossentropy, 2.0
        expected_soft = 2 * (soft["shape"] + soft["color"])
    elif how == "each":
        distillation_loss = {
            "shape": crossentropy,
            "color": [
                crossentropy,
                losses.SoftTargetKLDivergence(TEMPERATURE),
            ],
        }
        weights = {"shape": 1.0, "color": [0.5, 0.25]}
        expected_soft = (
            soft["shape"] + 0.5 * soft["color"] + 0.25 * divergence["color"]
        )
    else:
        distillation_loss, weights = (
            {"shape": None, "color": crossentropy},
            None,
        )
        expected_soft = soft["color"]
    loss = {"shape": hard_loss, "color": hard_loss}
    loss_weights = {"shape": 1.0, "color": 3.0}
    y = labels
    if structure is list:
        # The order of the outputs.
        loss, y = list(loss.values()), list(labels.values())
        loss_weights = list(loss_weights.values())
        if how != "one":
            distillation_loss = list(distillation_loss.values())
            weights = weights and list(weights.values())
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        loss=loss,
        loss_weights=loss_weights,
        distillation_loss=distillation_loss,
        distillation_loss_weights=weights,
        alpha=0.25,
    )
    logs = distiller.fit(x, y, batch_size=len(x), verbose=0).history
    expected_hard = hard["shape"] + 3 * hard["color"]
    np.testing.assert_allclose(logs["soft_loss"], [expected_soft], rtol=1e-5)
    np.testing.assert_allclose(logs["hard_loss"], [expected_hard], rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], [0.25 * expected_soft + 0.75 * expected_hard], rtol=1e-5
    )
    np.testing.assert_allclose(logs["color_loss"], [hard["color"]], rtol=1e-5)


@pytest.mark.parametrize("structure", [list, dict])
def test_two_outputs_with_soft_targets_and_weights(two_labels, structure):
    x, labels = two_labels
    student, teacher = two_outputs(1, structure), two_outputs(3, structure)
    z, v = student.predict(x, verbose=0), teacher.predict(x, verbose=0)
    weight = np.random.default_rng(0).uniform(0, 2, len(x))
    names = list(labels)
    pairs = [
        (v[key], z[key])
        for key in (names if structure is dict else range(len(names)))
    ]
    expected = sum(
        np.mean(weight * reference.crossentropy(*pair, TEMPERATURE))
        for pair in pairs
    )
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
    )
    history = distiller.fit(
        x,
        soft_targets=v,
        sample_weight=weight.astype("float32"),
        batch_size=len(x),
        verbose=0,
    ).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


def test_weights_of_one_output_without_labels(data):
    x, _ = data
    weight = np.linspace(0, 2, len(x), dtype="float32")

    def make(seed):
        inputs = keras.Input(x.shape[1:])
        outputs = [dense(classes, seed)(inputs) for classes in (3, 2)]
        return keras.Model(inputs, outputs)

    student, teacher = make(1), make(2)
    pairs = zip(
        teacher.predict(x, verbose=0),
        student.predict(x, verbose=0),
        (weight, 1.0),
        strict=True,
    )
    expected = sum(
        np.mean(w * reference.crossentropy(v, z, TEMPERATURE))
        for v, z, w in pairs
    )
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
    )
    history = distiller.fit(
        x, sample_weight=[weight, None], batch_size=len(x), verbose=0
    ).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


def test_labels_of_a_student_with_an_unknown_number_of_classes(data):
    """The loss finds wrong labels, not `evaluate`."""
    _, y = data
    logits = np.float32(np.random.default_rng(0).normal(size=(len(y), 5)))
    inputs = keras.Input((None,))
    student = keras.Model(inputs, keras.layers.Identity()(inputs))
    distiller = keras_distill.Distiller(
        student=student, teacher=lambda inputs: inputs
    )
    distiller.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    loss, *_ = distiller.evaluate(logits, y, verbose=0)
    np.testing.assert_allclose(
        loss, reference.hard_crossentropy(y, logits).mean(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("policy", "per_layer"),
    [
        pytest.param("mixed_float16", False, marks=pytest.mark.compiled),
        ("mixed_float16", True),
        ("mixed_bfloat16", False),
    ],
)
def test_mixed_precision(data, make_model, policy, per_layer):
    x, y = data
    teacher = make_model(seed=5)
    if per_layer:
        student = make_model(seed=1, dtype=policy)
    else:
        keras.config.set_dtype_policy(policy)
        student = make_model(seed=1)
    by_hand = reference.LinearStudent(
        *student.get_weights(), temperature=TEMPERATURE, alpha=0.7, rate=0.1
    )
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
        alpha=0.7,
    )
    scales = isinstance(
        distiller.optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert scales == (policy == "mixed_float16")
    history = distiller.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0
    ).history
    rounding = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}[policy]
    logits = teacher.predict(x, verbose=0)
    for epoch, logs in enumerate(by_hand.fit(x, y, logits, 8, epochs=2)):
        for name, value in logs.items():
            np.testing.assert_allclose(
                history[name][epoch], value, rtol=rounding
            )
    np.testing.assert_allclose(
        student.get_weights()[0], by_hand.kernel, rtol=rounding, atol=rounding
    )


def test_auto_scale_loss_can_be_refused(make_model):
    student = make_model(dtype="mixed_float16")
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("sgd", auto_scale_loss=False)
    assert isinstance(distiller.optimizer, keras.optimizers.SGD)


@pytest.mark.parametrize("structure", [list, dict])
def test_partly_labelled_outputs(two_labels, structure):
    """The metrics of each output count the examples it has labels for."""
    x, labels = two_labels
    labels["shape"] = np.where(np.arange(len(x)) % 2, labels["shape"], -1)
    student, teacher = two_outputs(1, structure), two_outputs(3, structure)
    z = student.predict(x, verbose=0)
    z = z["shape"] if structure is dict else z[0]
    known = labels["shape"] >= 0
    expected = np.mean(z.argmax(-1)[known] == labels["shape"][known])
    partly = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    loss = {"shape": partly, "color": partly}
    metrics = {"shape": ["accuracy"], "color": ["accuracy"]}
    if structure is list:
        loss, labels, metrics = (
            list(each.values()) for each in (loss, labels, metrics)
        )
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(keras.optimizers.SGD(0.0), loss=loss, metrics=metrics)
    logs = distiller.train_on_batch(x, labels, return_dict=True)
    np.testing.assert_allclose(logs["shape_accuracy"], expected, rtol=1e-6)


def test_nested_outputs(data):
    x, _ = data

    def model(seed):
        inputs = keras.Input((6,))
        heads = [dense(3, seed + n)(inputs) for n in range(3)]
        return keras.Model(inputs, {"a": heads[0], "b": heads[1:]})

    student, teacher = model(1), model(5)
    z, v = student.predict(x, verbose=0), teacher.predict(x, verbose=0)
    expected = sum(
        reference.crossentropy(*each, TEMPERATURE).mean()
        for each in zip(
            keras.tree.flatten(v), keras.tree.flatten(z), strict=True
        )
    )
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
    )
    logs = distiller.train_on_batch(x, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_weights_of_time_steps_beside_soft_targets():
    student, teacher = tagger(1), tagger(2)
    z, v = (m.predict(TOKENS, verbose=0) for m in (student, teacher))
    weight = np.random.default_rng(0).uniform(0, 2, TOKENS.shape)
    real = TOKENS != 0
    expected = np.sum(
        (weight * reference.crossentropy(v, z, TEMPERATURE))[real]
    ) / np.sum(real)
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(TEMPERATURE),
    )
    history = distiller.fit(
        TOKENS,
        soft_targets=v,
        sample_weight=weight.astype("float32"),
        verbose=0,
    ).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)

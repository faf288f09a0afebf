"""What `fit` computes, against gradient descent by hand in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill
import reference
from keras_distill import losses
from markers import float64
from markers import several_steps

pytestmark = pytest.mark.compiled

RATE, TEMPERATURE, ALPHA, BATCH = 0.1, 3.0, 0.7, 8


@pytest.fixture
def pair(data, make_model):
    """A student, a teacher, and the same by hand."""
    x, _ = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    by_hand = reference.LinearStudent(
        *student.get_weights(),
        temperature=TEMPERATURE,
        alpha=ALPHA,
        rate=RATE,
    )
    return student, teacher, by_hand, teacher.predict(x, verbose=0)


def compile_distiller(distiller, **kwargs):
    settings = {
        "optimizer": keras.optimizers.SGD(RATE),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "distillation_loss": losses.SoftTargetCrossentropy(TEMPERATURE),
        "alpha": ALPHA,
        "jit_compile": "auto",
        **kwargs,
    }
    distiller.compile(**settings)
    return distiller


def assert_same_weights(student, by_hand, rtol=1e-5, atol=2e-6):
    for ours, theirs in zip(
        student.get_weights(), (by_hand.kernel, by_hand.bias), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def assert_same_logs(history, by_hand, rtol=1e-5):
    for epoch, logs in enumerate(by_hand):
        for name, value in logs.items():
            np.testing.assert_allclose(
                history[name][epoch], value, rtol=rtol, err_msg=name
            )


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": True},
        pytest.param({"steps_per_execution": 2}, marks=several_steps),
        pytest.param({"steps_per_execution": 5}, marks=several_steps),
    ],
    ids=str,
)
def test_weights_and_logs(pair, data, how):
    """22 samples in batches of 8: the last batch is partial."""
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller, **how)
    history = distiller.fit(
        x, y, batch_size=BATCH, epochs=3, shuffle=False, verbose=0
    ).history
    assert set(history) == {
        "loss",
        "soft_loss",
        "hard_loss",
        "alpha",
        "temperature",
    }
    assert history["alpha"] == [ALPHA] * 3
    assert history["temperature"] == [TEMPERATURE] * 3
    assert_same_logs(history, by_hand.fit(x, y, logits, BATCH, epochs=3))
    assert_same_weights(student, by_hand)


def test_soft_targets_only(pair, data):
    student, teacher, by_hand, logits = pair
    x, _ = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller, loss=None, alpha=1.0)
    history = distiller.fit(
        x, batch_size=BATCH, epochs=2, shuffle=False, verbose=0
    ).history
    assert set(history) == {"loss", "soft_loss", "temperature"}
    assert_same_logs(history, by_hand.fit(x, None, logits, BATCH, epochs=2))
    assert_same_weights(student, by_hand)


def test_labels_are_not_used_without_a_hard_loss(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller, loss=None, alpha=1.0, metrics=["accuracy"])
    history = distiller.fit(
        x, y, batch_size=BATCH, shuffle=False, verbose=0
    ).history
    assert set(history) == {"loss", "soft_loss", "temperature", "accuracy"}
    by_hand.fit(x, None, logits, BATCH)
    assert_same_weights(student, by_hand)


def test_one_hot_labels(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller, loss=keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    one_hot = np.eye(5, dtype="float32")[y]
    distiller.fit(x, one_hot, batch_size=BATCH, shuffle=False, verbose=0)
    by_hand.fit(x, y, logits, BATCH)
    assert_same_weights(student, by_hand)


@pytest.mark.parametrize("attributes", [True, False])
def test_partly_labelled(pair, data, attributes):
    student, teacher, by_hand, logits = pair
    x, y = data
    y = np.where(np.arange(len(y)) % 3 == 0, y, -1)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    if not attributes:
        # As in Keras 3.16.
        for name in ("from_logits", "ignore_class"):
            vars(loss).pop(name, None)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller,
        loss=loss,
        optimizer=keras.optimizers.SGD(0.0),
        metrics=["accuracy"],
    )
    history = distiller.fit(
        x, y, batch_size=len(x), shuffle=False, verbose=0
    ).history
    assert_same_logs(history, [by_hand.losses(x, y, logits)])
    # Accuracy counts the examples that have a label, and no others.
    known = y >= 0
    correct = by_hand.logits(x).argmax(-1) == y
    np.testing.assert_allclose(
        history["accuracy"][0], correct[known].mean(), rtol=1e-6
    )


@pytest.mark.parametrize("through", ["array", "dataset"])
def test_sample_weight(pair, data, through):
    student, teacher, by_hand, logits = pair
    x, y = data
    weight = np.random.default_rng(1).uniform(0, 2, len(x)).astype("float32")
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller)
    if through == "array":
        history = distiller.fit(
            x,
            y,
            sample_weight=weight,
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
        ).history
    else:
        batches = tf.data.Dataset.from_tensor_slices((x, y, weight))
        history = distiller.fit(batches.batch(BATCH), verbose=0).history
    assert_same_logs(history, by_hand.fit(x, y, logits, BATCH, weight=weight))
    assert_same_weights(student, by_hand)


@pytest.mark.parametrize(
    ("packed", "one_hot", "through"),
    [
        (False, False, "array"),
        (True, False, "dataset"),
        (False, True, "dataset"),
        (True, True, "array"),
    ],
)
def test_class_weight(pair, data, packed, one_hot, through):
    student, teacher, by_hand, logits = pair
    x, y = data
    class_weight = {0: 2.0, 1: 0.5, 2: 1.0, 3: 0.0, 4: 1.0}
    weight = np.array([class_weight[label] for label in y])
    labels = np.eye(5, dtype="float32")[y] if one_hot else y
    loss = (
        keras.losses.CategoricalCrossentropy(from_logits=True)
        if one_hot
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    distiller = keras_distill.Distiller(
        student=student, teacher=None if packed else teacher
    )
    compile_distiller(distiller, loss=loss)
    inputs = keras_distill.WithSoftTargets(x, logits) if packed else x
    if through == "array":
        arguments = {"x": inputs, "y": labels, "batch_size": BATCH}
    else:
        dataset = tf.data.Dataset.from_tensor_slices((inputs, labels))
        arguments = {"x": dataset.batch(BATCH)}
    distiller.fit(
        **arguments, class_weight=class_weight, shuffle=False, verbose=0
    )
    by_hand.fit(x, y, logits, BATCH, weight=weight)
    assert_same_weights(student, by_hand)
    # And no weights in the next.
    distiller.fit(**arguments, shuffle=False, verbose=0)
    by_hand.fit(x, y, logits, BATCH)
    assert_same_weights(student, by_hand)


def test_class_weight_on_a_batch(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller)
    distiller.train_on_batch(x, y, class_weight={1: 3.0})
    by_hand.step(x, y, logits, np.where(y == 1, 3.0, 1.0))
    assert_same_weights(student, by_hand)


def test_no_class_weights(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller)
    distiller.train_on_batch(x, y, class_weight={})
    by_hand.step(x, y, logits, np.ones(len(y)))
    assert_same_weights(student, by_hand)


def test_class_weight_does_not_weigh_the_validation(pair, data):
    student, _, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student)
    compile_distiller(distiller, optimizer=keras.optimizers.SGD(0.0))
    history = distiller.fit(
        x,
        y,
        soft_targets=logits,
        class_weight={label: 7.0 for label in range(5)},
        validation_split=6 / 22,
        batch_size=16,
        verbose=0,
    ).history
    expected = by_hand.losses(x[16:], y[16:], logits[16:])
    for name, value in expected.items():
        np.testing.assert_allclose(history[f"val_{name}"], value, rtol=1e-5)


def test_regularizers_and_add_loss(data, make_model, pair):
    _, teacher, _, logits = pair
    x, y = data

    class AddsLoss(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(0.01 * keras.ops.mean(keras.ops.square(inputs)))
            return inputs

    inner = make_model(seed=1, kernel_regularizer=keras.regularizers.L2(0.03))
    inputs = keras.Input((6,))
    student = keras.Model(inputs, inner(AddsLoss()(inputs)))
    by_hand = reference.LinearStudent(
        *student.get_weights(),
        temperature=TEMPERATURE,
        alpha=ALPHA,
        rate=RATE,
    )
    by_hand.l2 = 0.03
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller)
    history = distiller.fit(x, y, batch_size=len(x), verbose=0).history
    expected = by_hand.losses(x, y, logits)
    expected["loss"] += 0.01 * np.mean(np.float64(x) ** 2)
    assert_same_logs(history, [expected])
    by_hand.step(x, y, logits)
    assert_same_weights(student, by_hand)
    # Evaluation has the hard loss and what the student adds.
    logs = distiller.evaluate(
        x, y, batch_size=len(x), verbose=0, return_dict=True
    )
    after = by_hand.losses(x, y, logits)
    np.testing.assert_allclose(logs["hard_loss"], after["hard_loss"], rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"],
        after["hard_loss"]
        + 0.03 * np.sum(by_hand.kernel**2)
        + 0.01 * np.mean(np.float64(x) ** 2),
        rtol=1e-5,
    )


def test_gradient_accumulation(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data[0][:16], data[1][:16]
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller,
        optimizer=keras.optimizers.SGD(RATE, gradient_accumulation_steps=2),
    )
    distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    # Two batches of 8, their gradients averaged: one batch of 16.
    by_hand.step(x, y, logits[:16])
    assert_same_weights(student, by_hand)


def test_exponential_moving_average(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller,
        optimizer=keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.6),
    )
    distiller.fit(x, y, batch_size=len(x), epochs=3, shuffle=False, verbose=0)
    average = by_hand.kernel.copy()
    for step in range(3):
        by_hand.step(x, y, logits)
        # Keras starts the average at the first updated weights.
        momentum = 0.6 if step else 0.0
        average = momentum * average + (1 - momentum) * by_hand.kernel
    np.testing.assert_allclose(
        student.get_weights()[0], average, rtol=1e-5, atol=1e-6
    )


def test_train_on_batch(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller)
    expected = by_hand.losses(x, y, logits)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5)
    by_hand.step(x, y, logits)
    assert_same_weights(student, by_hand)


def test_validation_split_is_the_students_own(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller, metrics=["accuracy"])
    history = distiller.fit(
        x, y, validation_split=6 / 22, batch_size=16, shuffle=False, verbose=0
    ).history
    by_hand.fit(x[:16], y[:16], logits[:16], 16)
    assert_same_weights(student, by_hand)
    z = by_hand.logits(x[16:])
    hard = reference.hard_crossentropy(y[16:], z).mean()
    np.testing.assert_allclose(history["val_hard_loss"], [hard], rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], [hard], rtol=1e-5)
    np.testing.assert_allclose(
        history["val_accuracy"], [np.mean(z.argmax(-1) == y[16:])], rtol=1e-6
    )
    assert "val_soft_loss" not in history


def test_several_losses_with_weights(pair, data):
    student, teacher, by_hand, logits = pair
    x, _ = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller,
        loss=None,
        alpha=1.0,
        distillation_loss=[
            losses.SoftTargetKLDivergence(2.0),
            losses.LogitMatching(),
        ],
        distillation_loss_weights=[0.5, 3.0],
    )
    history = distiller.fit(x, batch_size=len(x), verbose=0).history
    z = by_hand.logits(x)
    expected = 0.5 * reference.kl_divergence(logits, z, 2.0).mean()
    expected += 3.0 * reference.logit_matching(logits, z).mean()
    np.testing.assert_allclose(history["soft_loss"], [expected], rtol=1e-5)


def test_alpha_and_temperature_change_without_a_retrace(pair, data):
    student, teacher, by_hand, logits = pair
    x, y = data
    traces, traces_before = [], []

    class Schedule(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            traces_before.append(len(traces))
            self.model.alpha = [0.9, 0.2][epoch]
            loss.temperature = [5.0, 2.0][epoch]

    class CountsTraces(keras.Model):
        def call(self, inputs):
            traces.append(1)
            return teacher(inputs)

    loss = losses.SoftTargetCrossentropy(1.0)
    distiller = keras_distill.Distiller(student=student, teacher=CountsTraces())
    compile_distiller(distiller, distillation_loss=loss)
    history = distiller.fit(
        x,
        y,
        epochs=2,
        batch_size=len(x),
        shuffle=False,
        verbose=0,
        callbacks=[Schedule()],
        cache=False,
    ).history
    for epoch, (alpha, temperature) in enumerate([(0.9, 5.0), (0.2, 2.0)]):
        by_hand.alpha, by_hand.temperature = alpha, temperature
        for name, value in by_hand.losses(x, y, logits).items():
            np.testing.assert_allclose(history[name][epoch], value, rtol=1e-5)
        by_hand.step(x, y, logits)
    assert_same_weights(student, by_hand)
    if keras.backend.backend() != "torch":
        # The compiled step of the first epoch is that of the second.
        assert len(traces) == traces_before[1]
    assert distiller.alpha == 0.2


class OwnTemperature(losses.DistillationLoss):
    """A user's loss that only assigns and reads `self.temperature`."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def compare(self, teacher_logits, student_logits):
        p = keras.ops.softmax(teacher_logits / self.temperature)
        q = keras.ops.log_softmax(student_logits / self.temperature)
        return -keras.ops.sum(p * q, axis=-1) * self.temperature**2


class OwnComparison(losses.SoftTargetKLDivergence):
    """A user's loss with the temperature of its base class."""

    compare = OwnTemperature.compare


@pytest.mark.parametrize("make", [OwnTemperature, OwnComparison])
@pytest.mark.parametrize("cache", [True, False])
def test_a_schedule_reaches_a_loss_of_ones_own(pair, data, make, cache):
    """Between epochs and between steps."""
    student, teacher, by_hand, logits = pair
    x, y = data
    loss = make(1.0)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller, distillation_loss=loss)

    class Schedule(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            loss.temperature = 2.0 + self.epoch + batch
            self.model.alpha = 0.5 + 0.1 * batch

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    history = distiller.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[Schedule()],
        cache=cache,
    ).history
    assert history["temperature"] == [4.0, 5.0]
    for epoch in range(2):
        for batch, start in enumerate((0, 8, 16)):
            by_hand.temperature = 2.0 + epoch + batch
            by_hand.alpha = 0.5 + 0.1 * batch
            rows = slice(start, start + BATCH)
            by_hand.step(x[rows], y[rows], logits[rows])
    assert_same_weights(student, by_hand)


@pytest.mark.backend("tensorflow", reason="only TensorFlow has a tf.function")
def test_a_loss_is_built_inside_of_a_function(pair, data):
    x, _ = data
    student, _, _, logits = pair

    @tf.function
    def compute(v, z):
        return losses.SoftTargetCrossentropy(TEMPERATURE)(v, z)

    z = student.predict(x, verbose=0)
    expected = reference.crossentropy(logits, z, TEMPERATURE).mean()
    for _ in range(2):
        np.testing.assert_allclose(compute(logits, z), expected, rtol=1e-5)


@pytest.mark.parametrize("student_activation", [None, "softmax"])
@pytest.mark.parametrize("teacher_activation", [None, "softmax"])
def test_models_that_end_in_a_softmax(
    data, make_model, student_activation, teacher_activation
):
    x, y = data
    student = make_model(student_activation, seed=1)
    teacher = make_model(teacher_activation, seed=5)
    kernel, bias = teacher.get_weights()
    # So far apart that the probabilities underflow.
    teacher.set_weights([60 * kernel, bias])
    by_hand = reference.LinearStudent(
        *student.get_weights(),
        temperature=TEMPERATURE,
        alpha=ALPHA,
        rate=RATE,
    )
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller,
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=student_activation is None
        ),
    )
    history = distiller.fit(
        x, y, batch_size=BATCH, shuffle=False, verbose=0
    ).history
    logits = np.float64(x) @ (60 * np.float64(kernel)) + bias
    assert_same_logs(history, by_hand.fit(x, y, logits, BATCH))
    assert_same_weights(student, by_hand)


def test_a_student_with_temperature_softmax(data, make_model):
    """The soft loss has its own temperature, the hard loss and metrics 1."""
    x, y = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    by_hand = reference.LinearStudent(
        *student.get_weights(),
        temperature=TEMPERATURE,
        alpha=ALPHA,
        rate=RATE,
    )
    student.add(keras_distill.TemperatureSoftmax(8.0))
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller, loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = distiller.fit(
        x, y, batch_size=BATCH, shuffle=False, verbose=0
    ).history
    logits = teacher.predict(x, verbose=0)
    assert_same_logs(history, by_hand.fit(x, y, logits, BATCH))
    assert_same_weights(student, by_hand)


def test_unrecognized_softmax(data, make_model):
    x, _ = data
    student, teacher = make_model("softmax", seed=1), make_model(seed=5)
    by_hand = reference.LinearStudent(
        *student.get_weights(), temperature=TEMPERATURE, rate=RATE
    )
    inputs = keras.Input((6,))
    flattened = keras.layers.Reshape((5,))(student(inputs))
    distiller = keras_distill.Distiller(
        student=keras.Model(inputs, flattened),
        teacher=lambda x: keras.ops.softmax(teacher(x)),
    )
    compile_distiller(
        distiller,
        loss=None,
        alpha=1.0,
        distillation_loss=losses.SoftTargetCrossentropy(
            TEMPERATURE, from_logits=False
        ),
    )
    history = distiller.fit(x, batch_size=BATCH, shuffle=False, verbose=0)
    logits = teacher.predict(x, verbose=0)
    assert_same_logs(history.history, by_hand.fit(x, None, logits, BATCH))
    assert_same_weights(student, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_probabilities_taken_for_logits_are_warned_of(data, make_model, who):
    x, _ = data
    models = {"teacher": make_model(seed=1), "student": make_model(seed=2)}
    inputs = keras.Input((6,))
    probabilities = keras.layers.Softmax()(models[who](inputs))
    # Nothing to see from outside.
    models[who] = keras.Model(
        inputs, keras.layers.Rescaling(1.0)(probabilities)
    )
    distiller = keras_distill.Distiller(**models)
    compile_distiller(distiller, loss=None, alpha=1.0, metrics=["accuracy"])
    # Nothing is inspected without soft targets.
    distiller.evaluate(x, np.zeros(len(x), int), verbose=0)
    with pytest.warns(UserWarning, match=f"The {who}'s outputs look like"):
        distiller.fit(x, epochs=2, verbose=0)


def test_probabilities_of_a_list_are_warned_of(data, make_model):
    x, _ = data
    models = [make_model("softmax", seed=seed) for seed in (5, 9)]
    distiller = keras_distill.Distiller(
        student=make_model(),
        teacher=[lambda x, m=m: m(x) + 0.0 for m in models],
    )
    compile_distiller(distiller, loss=None, alpha=1.0)
    with pytest.warns(UserWarning, match="The teacher's outputs look like"):
        distiller.fit(x, verbose=0)


def test_logits_are_not_warned_of(pair, data, recwarn):
    student, teacher, *_ = pair
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(distiller)
    distiller.fit(*data, verbose=0)
    assert not [w for w in recwarn if "look like" in str(w.message)]


@float64
def test_float64(pair, data):
    """To the last digit, and with a loss in another dtype than the rest."""
    _, _, by_hand, _ = pair
    x, y = data[0].astype("float64"), data[1]
    keras.config.set_floatx("float64")
    try:
        student, teacher = (
            keras.Sequential(
                [keras.Input((6,)), keras.layers.Dense(5, dtype="float64")]
            )
            for _ in range(2)
        )
        by_hand.kernel, by_hand.bias = map(np.copy, student.get_weights())
        by_hand.temperature = 3.3
        distiller = keras_distill.Distiller(student=student, teacher=teacher)
        compile_distiller(
            distiller,
            distillation_loss=losses.SoftTargetCrossentropy(3.3),
        )
        distiller.train_on_batch(x, y)
        by_hand.rate = float(distiller.optimizer.learning_rate)
        by_hand.step(x, y, x @ teacher.get_weights()[0])
        assert_same_weights(student, by_hand, rtol=1e-13, atol=1e-14)
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_of_the_distillation_loss(pair, data, dtype):
    student, teacher, by_hand, logits = pair
    x, y = data
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    compile_distiller(
        distiller,
        distillation_loss=losses.SoftTargetCrossentropy(
            TEMPERATURE, dtype=dtype
        ),
    )
    logs = distiller.train_on_batch(x, y, return_dict=True)
    for name, value in by_hand.losses(x, y, logits).items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5)

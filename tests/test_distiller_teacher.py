"""The teacher: of any kind, called once a step, and left alone."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

import keras_distill
import reference
from backends import observe
from backends import wait
from keras_distill import losses


def soft_loss_of_one_step(student, teacher, x, **kwargs):
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    kwargs.setdefault("distillation_loss", losses.SoftTargetCrossentropy(3.0))
    distiller.compile(keras.optimizers.SGD(0.0), **kwargs)
    logs = distiller.train_on_batch(x, return_dict=True)
    return float(logs["soft_loss"])


@keras.saving.register_keras_serializable(package="tests")
class CountsCalls(keras.layers.Layer):
    """Counts how often a compiled step really runs it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    def call(self, inputs):
        return observe(lambda x: self.calls.append(1), inputs)

    def count(self):
        wait()
        return len(self.calls)


def big_teacher():
    counter = CountsCalls()
    return keras.Sequential(
        [
            keras.Input((6,)),
            counter,
            keras.layers.GaussianNoise(1.0),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=3),
            keras.layers.Dense(5),
        ]
    ), counter


@pytest.mark.compiled
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_teacher_and_student_run_once_a_step(data, make_model, run_eagerly):
    x, y = data
    teacher, of_teacher = big_teacher()
    of_student = CountsCalls()
    inputs = keras.Input((6,))
    student = keras.Model(inputs, make_model()(of_student(inputs)))
    wait()
    of_teacher.calls.clear()
    of_student.calls.clear()
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        "adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=run_eagerly,
    )
    distiller.fit(x, y, batch_size=4, epochs=3, verbose=0, cache=False)
    steps = 3 * 6
    assert of_teacher.count() == of_student.count() == steps
    distiller.evaluate(x, y, batch_size=11, verbose=0)
    distiller.predict(x, batch_size=11, verbose=0)
    distiller(x)
    assert of_teacher.count() == steps
    assert of_student.count() == steps + 5


def test_teacher_is_untouched(data, make_model):
    x, y = data
    teacher, _ = big_teacher()
    teacher.compile("adam", loss="mse")
    teacher.layers[2].trainable = False
    frozen = [layer.trainable for layer in teacher._flatten_layers()]
    # All variables: weights, moving averages, states of the random seeds.
    before = [np.copy(v) for v in teacher.variables]
    distiller = keras_distill.Distiller(student=make_model(), teacher=teacher)
    distiller.compile(
        "adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for cache in (True, False):
        distiller.fit(
            x, y, epochs=2, validation_data=(x, y), verbose=0, cache=cache
        )
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert frozen == [layer.trainable for layer in teacher._flatten_layers()]
    assert teacher.trainable
    assert teacher.compiled
    teacher_weights = {id(w) for w in teacher.variables}
    assert not any(id(w) in teacher_weights for w in distiller.variables)


def test_batch_normalisation_and_dropout_run_in_inference(data, make_model):
    x, _ = data
    teacher, _ = big_teacher()
    teacher.layers[3].moving_mean.assign(np.linspace(-1, 1, 16))
    student = make_model(seed=1)
    expected = reference.crossentropy(
        teacher.predict(x, verbose=0), student.predict(x, verbose=0), 3.0
    ).mean()
    np.testing.assert_allclose(
        soft_loss_of_one_step(student, teacher, x), expected, rtol=1e-5
    )


class Subclassed(keras.Model):
    def __init__(self, dropout):
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.dropout = keras.layers.Dropout(dropout)
        self.head = keras.layers.Dense(5)

    def call(self, inputs, training=None):
        return self.head(self.dropout(self.hidden(inputs), training=training))


def test_subclassed_teacher_and_student(data):
    x, _ = data
    teacher, student = Subclassed(0.9), Subclassed(0.0)
    v, z = (ops.convert_to_numpy(model(x)) for model in (teacher, student))
    np.testing.assert_allclose(
        soft_loss_of_one_step(student, teacher, x),
        reference.crossentropy(v, z, 3.0).mean(),
        rtol=1e-5,
    )


class HasModels(keras.Model):
    """A model with an attribute that an `Ensemble` has, too."""

    def __init__(self):
        super().__init__()
        self.models = [keras.Sequential([keras.layers.Dense(5)])]
        self.head = keras.layers.Dense(5)

    def call(self, inputs):
        return self.head(self.models[0](inputs))


def test_teacher_with_an_attribute_named_models(data, make_model):
    x, _ = data
    student, teacher = make_model(seed=1), HasModels()
    teacher(x)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(keras.optimizers.SGD(0.0))
    z = student.predict(x, verbose=0)
    for factor in (1.0, 3.0):
        # The cache sees another head, too.
        teacher.head.kernel.assign(factor * teacher.head.kernel)
        logs = distiller.fit(x, verbose=0).history
        v = teacher.predict(x, verbose=0)
        np.testing.assert_allclose(
            logs["soft_loss"], reference.crossentropy(v, z, 4.0).mean(), 1e-5
        )


@pytest.mark.compiled
def test_subclassed_student_that_is_not_built_yet(data):
    x, y = data
    distiller = keras_distill.Distiller(
        student=Subclassed(0.0), teacher=Subclassed(0.0)
    )
    distiller.compile(
        "adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    losses = distiller.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert distiller.built
    assert len(distiller.student.trainable_weights) == 4


def test_teacher_with_another_input_pipeline(data, make_model):
    """Another shape, dtype and preprocessing: only the outputs must agree."""
    x, _ = data
    images = (40 * x + 128).clip(0, 255).astype("uint8")
    inputs = keras.Input((2, 3, 1), dtype="uint8")
    hidden = keras.layers.Rescaling(1 / 255)(inputs)
    hidden = keras.layers.Flatten()(hidden)
    teacher = keras.Model(
        inputs, keras.layers.Dense(5, dtype="float64")(hidden)
    )
    student_inputs = keras.Input((6,), dtype="uint8")
    rescaled = keras.layers.Rescaling(1 / 128, offset=-1)(student_inputs)
    student = keras.Model(student_inputs, make_model(seed=1)(rescaled))
    v = teacher.predict(images.reshape(-1, 2, 3, 1), verbose=0)
    z = student.predict(images, verbose=0)
    value = soft_loss_of_one_step(
        student,
        lambda x: teacher(keras.ops.reshape(x, (-1, 2, 3, 1)), training=False),
        images,
    )
    np.testing.assert_allclose(
        value, reference.crossentropy(v, z, 3.0).mean(), rtol=1e-5
    )


def test_models_select_different_inputs(data):
    x, _ = data
    inputs = {"small": x[:, :2], "large": x}

    def model(name, size):
        taken = keras.Input((size,), name=name)
        return keras.Model({name: taken}, keras.layers.Dense(5)(taken))

    small, large = model("small", 2), model("large", 6)
    v = large.predict({"large": x}, verbose=0)
    z = small.predict({"small": x[:, :2]}, verbose=0)

    class TakesSmall(keras.Model):
        def call(self, inputs):
            return small({"small": inputs["small"]})

    value = soft_loss_of_one_step(
        TakesSmall(), lambda batch: large({"large": batch["large"]}), inputs
    )
    np.testing.assert_allclose(
        value, reference.crossentropy(v, z, 3.0).mean(), rtol=1e-5
    )


@pytest.mark.parametrize("trainable", [False, True])
def test_layers_shared_by_teacher_and_student(data, trainable, make_model):
    x, _ = data
    shared = keras.layers.Dense(6, activation="tanh", trainable=trainable)
    inputs = keras.Input((6,))
    student = keras.Model(inputs, make_model(seed=1)(shared(inputs)))
    teacher = keras.Model(inputs, make_model(seed=5)(shared(inputs)))
    v = teacher.predict(x, verbose=0)
    hidden = np.float64(ops.convert_to_numpy(shared(x)))
    by_hand = reference.LinearStudent(
        *student.layers[-1].get_weights(), temperature=3.0, rate=0.1
    )
    before = np.copy(shared.kernel)
    if trainable:
        with pytest.warns(UserWarning, match="shares trainable weights"):
            distiller = keras_distill.Distiller(
                student=student, teacher=teacher
            )
    else:
        distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        keras.optimizers.SGD(0.1),
        distillation_loss=losses.SoftTargetCrossentropy(3.0),
    )
    distiller.train_on_batch(x)
    by_hand.step(hidden, None, v)
    np.testing.assert_allclose(
        student.layers[-1].get_weights()[0], by_hand.kernel, rtol=1e-4
    )
    assert np.array_equal(before, shared.kernel) != trainable


@pytest.mark.parametrize("activations", [(None, None), ("softmax", None)])
@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_a_list_teaches_the_mean_of_its_probabilities(
    data, make_model, activations, temperature
):
    x, _ = data
    student = make_model(seed=1)
    plain = [make_model(seed=seed) for seed in (5, 9)]
    teachers = [
        make_model(activation, seed=seed)
        for activation, seed in zip(activations, (5, 9), strict=True)
    ]
    p = np.mean(
        [
            softmax(np.float64(t.predict(x, verbose=0)) / temperature, -1)
            for t in plain
        ],
        axis=0,
    )
    z = student.predict(x, verbose=0)
    expected = reference.crossentropy(
        temperature * np.log(p), z, temperature
    ).mean()
    value = soft_loss_of_one_step(
        student,
        teachers,
        x,
        distillation_loss=losses.SoftTargetCrossentropy(temperature),
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_list_of_callables_that_return_probabilities(data, make_model):
    x, _ = data
    student = make_model(seed=1)
    models = [make_model("softmax", seed=seed) for seed in (5, 9)]
    p = [np.float64(m.predict(x, verbose=0)) ** (1 / 3) for m in models]
    p = np.mean([each / each.sum(-1, keepdims=True) for each in p], axis=0)
    z = student.predict(x, verbose=0)
    value = soft_loss_of_one_step(
        student,
        [lambda x, m=m: m(x, training=False) + 0.0 for m in models],
        x,
        distillation_loss=losses.SoftTargetCrossentropy(
            3.0, teacher_from_logits=False
        ),
    )
    np.testing.assert_allclose(
        value, reference.crossentropy(3 * np.log(p), z, 3.0).mean(), rtol=1e-5
    )


def to_precision(model, precision):
    """Returns a copy, as the guide to the backends makes it."""
    if precision == "bfloat16":
        copy = keras.models.clone_model(
            model,
            clone_function=lambda layer: type(layer).from_config(
                {**layer.get_config(), "dtype": "bfloat16"}
            ),
            recursive=True,
        )
    else:
        copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if precision == "int8":
        copy.quantize("int8")
    return copy


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_teacher_of_lower_precision(data, make_model, precision):
    x, y = data
    full = make_model(seed=3)
    teacher = to_precision(full, precision)
    assert precision in {weight.dtype for weight in teacher.weights}
    expected, of_full = (
        keras_distill.predict_logits(model, x, verbose=0)
        for model in (teacher, full)
    )
    difference = np.abs(expected - of_full).max()
    # The logits reach to 10; rounding has three digits of that.
    assert 1e-4 < difference < 0.1
    seen = []

    class Listens(losses.DistillationLoss):
        def compare(self, teacher_logits, student_logits):
            teacher_logits = observe(seen.append, teacher_logits)
            return ops.sum(ops.square(teacher_logits - student_logits), -1)

    def train(cache):
        distiller = keras_distill.Distiller(
            student=make_model(seed=1), teacher=teacher
        )
        distiller.compile(
            keras.optimizers.SGD(0.01),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            distillation_loss=Listens(),
        )
        seen.clear()
        logs = distiller.fit(
            *(x, y),
            batch_size=len(x),
            epochs=2,
            verbose=0,
            shuffle=False,
            cache=cache,
        ).history
        wait()
        assert seen
        for each in seen:
            np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)
        weights = distiller.student.weights
        assert {weight.dtype for weight in weights} == {"float32"}
        return logs

    on_the_fly, cached = train(False), train(True)
    for name, values in on_the_fly.items():
        np.testing.assert_allclose(cached[name], values, rtol=1e-5)


def test_precision_of_models_within_a_teacher(data):
    x, _ = data
    inputs = keras.Input((6,))
    hidden = keras.Input((8,))
    teacher = keras.Sequential(
        [
            keras.Model(inputs, keras.layers.Dense(8, "relu")(inputs)),
            keras.Sequential(
                [keras.Model(hidden, keras.layers.Dense(8)(hidden))]
            ),
            keras.layers.Dense(5),
        ]
    )
    converted = to_precision(teacher, "bfloat16")
    layers = [
        layer
        for layer in converted._flatten_layers()
        if not isinstance(layer, (keras.Model, keras.layers.InputLayer))
    ]
    assert len(layers) == 3
    assert {layer.compute_dtype for layer in layers} == {"bfloat16"}
    assert {weight.dtype for weight in converted.weights} == {"bfloat16"}
    expected, received = (
        keras_distill.predict_logits(model, x, verbose=0)
        for model in (teacher, converted)
    )
    np.testing.assert_allclose(received, expected, atol=0.05)


def test_a_refused_teacher_leaves_the_former(make_model):
    teacher = make_model()
    distiller = keras_distill.Distiller(student=make_model(), teacher=teacher)
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="same number of classes"):
        distiller.teacher = other
    assert distiller.teacher is teacher


def test_teacher_exchanged_in_the_middle_of_fit(data, make_model):
    x, _ = data
    student = make_model(seed=1)
    first, second = make_model(seed=5), make_model(seed=9)
    distiller = keras_distill.Distiller(student=student, teacher=first)

    class Exchange(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.teacher = [first, second][epoch]

    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(3.0),
    )
    arguments = {"epochs": 2, "batch_size": len(x), "verbose": 0}
    history = distiller.fit(
        x, **arguments, callbacks=[Exchange()], cache=False
    ).history
    z = student.predict(x, verbose=0)
    expected = [
        reference.crossentropy(t.predict(x, verbose=0), z, 3.0).mean()
        for t in (first, second)
    ]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    # What the first one said does not pass for the second one's.
    with pytest.raises(ValueError, match="computed by the former teacher"):
        distiller.fit(x, **arguments, callbacks=[Exchange()])


def test_shared_batch_normalisation_is_warned_of(make_model):
    shared = keras.layers.BatchNormalization(center=False, scale=False)
    inputs = keras.Input((6,))
    student, teacher = (
        keras.Model(inputs, make_model(seed=seed)(shared(inputs)))
        for seed in (1, 2)
    )
    with pytest.warns(UserWarning, match="moving_mean"):
        keras_distill.Distiller(student=student, teacher=teacher)


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.layers.Layer):
    """Has a weight, and a layer within it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dropout(0.0)

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return self.inner(self.scale * x)


@pytest.mark.parametrize("trainable", [True, False])
def test_a_shared_layer_with_a_layer_within_it(make_model, data, trainable):
    shared = Scaled(trainable=trainable)
    inputs = keras.Input((6,))
    student, teacher = (
        keras.Model(inputs, make_model(seed=seed)(shared(inputs)))
        for seed in (1, 2)
    )
    if not trainable:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            keras_distill.Distiller(student=student, teacher=teacher)
        return
    with pytest.warns(UserWarning, match="scale"):
        distiller = keras_distill.Distiller(student=student, teacher=teacher)
    # The teacher changes, so it is asked in each step.
    distiller.compile(keras.optimizers.SGD(0.5))
    x, _ = data
    distiller.fit(x, epochs=2, verbose=0)
    before = float(shared.scale)
    loss = losses.SoftTargetCrossentropy(4.0)(
        teacher.predict(x, verbose=0), student.predict(x, verbose=0)
    )
    distiller.optimizer.learning_rate = 0.0
    (found,) = distiller.fit(x, batch_size=len(x), verbose=0).history[
        "soft_loss"
    ]
    assert float(shared.scale) == before != 1.0
    assert found == pytest.approx(float(loss), rel=1e-4)


def test_an_optional_input(data):
    """That is not given, and comes first."""
    x, y = data
    first, second = keras.Input((3,), optional=True), keras.Input((6,))

    class Ignore(keras.layers.Layer):
        def call(self, inputs):
            return inputs[1]

    def build(seed):
        dense = keras.layers.Dense(
            5, kernel_initializer=keras.initializers.RandomNormal(seed=seed)
        )
        return keras.Model([first, second], dense(Ignore()([first, second])))

    student, teacher = build(1), build(2)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(keras.optimizers.SGD(0.0))
    loss = losses.SoftTargetCrossentropy(4.0)(
        teacher.predict_on_batch([None, x]), student.predict_on_batch([None, x])
    )
    logs = distiller.train_on_batch([None, x], y, return_dict=True)
    assert float(logs["soft_loss"]) == pytest.approx(float(loss), rel=1e-5)


def test_a_teacher_may_refuse_to_be_compiled(make_model, monkeypatch):
    """As Keras asks a model, so that `"auto"` fits the teacher, too."""
    monkeypatch.setattr(
        keras.Model, "_resolve_auto_jit_compile", lambda self: True
    )
    refusing = make_model(seed=2)
    refusing.layers[-1].supports_jit = False
    for teacher, expected in ((make_model(seed=3), True), (refusing, False)):
        distiller = keras_distill.Distiller(
            student=make_model(seed=1), teacher=teacher
        )
        distiller.compile("sgd")
        assert distiller.jit_compile is expected
    distiller.teacher = make_model(seed=3)
    assert distiller.jit_compile is True
    distiller.teacher = refusing
    assert distiller.jit_compile is False
    # What was said is done.
    distiller.compile("sgd", jit_compile=True)
    distiller.teacher = refusing
    assert distiller.jit_compile is True


def test_a_training_step_of_the_students_own_is_warned_of():
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    with pytest.warns(UserWarning, match="`train_step` or `compute_loss`"):
        keras_distill.Distiller(student=Own())


def test_teacher_can_be_exchanged(data, make_model):
    x, _ = data
    student = make_model(seed=1)
    z = student.predict(x, verbose=0)
    first, second = make_model(seed=5), make_model(seed=9)
    distiller = keras_distill.Distiller(student=student, teacher=first)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(3.0),
    )
    for teacher in (first, second):
        distiller.teacher = teacher
        assert distiller.teacher is teacher
        # Before Keras 3.15 the logs of a batch are those of all batches so far.
        distiller.reset_metrics()
        logs = distiller.train_on_batch(x, return_dict=True)
        expected = reference.crossentropy(teacher.predict(x, verbose=0), z, 3.0)
        np.testing.assert_allclose(
            logs["soft_loss"], expected.mean(), rtol=1e-5
        )


@pytest.mark.compiled
def test_a_new_teacher_of_cached_fits(data, make_model):
    """No new step on TensorFlow, which keeps old steps in memory."""
    x, _ = data
    student = make_model(seed=1)
    z = student.predict(x, verbose=0)
    distiller = keras_distill.Distiller(student=student, teacher=make_model())
    distiller.compile(keras.optimizers.SGD(0.0))
    distiller.fit(x, verbose=0)
    steps = {id(distiller.train_function): distiller.train_function}
    for seed, cache in ((5, True), (6, True), (7, False), (8, False)):
        distiller.teacher = make_model(seed=seed)
        history = distiller.fit(x, verbose=0, cache=cache).history
        v = make_model(seed=seed).predict(x, verbose=0)
        expected = reference.crossentropy(v, z, 4.0).mean()
        np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
        step = distiller.train_function
        steps[id(step)] = step
    if keras.backend.backend() == "tensorflow":
        # The last teacher replaced one that a step contained.
        assert len(steps) == 2


@pytest.mark.compiled
def test_soft_targets_are_inspected_without_the_teacher(data, make_model):
    """A step for a teacher that returns logits does not inspect them."""
    x, _ = data
    teacher = make_model(seed=5)
    distiller = keras_distill.Distiller(student=make_model(), teacher=teacher)
    distiller.compile("sgd")
    logits = teacher.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*look like probabilities")
        distiller.fit(x, soft_targets=logits, verbose=0)
    distiller.teacher = None
    with pytest.warns(UserWarning, match="look like probabilities"):
        distiller.fit(x, soft_targets=softmax(logits, -1), verbose=0)

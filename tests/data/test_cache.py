"""Arrays are labelled once, and the training is the same as without a cache."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import log_softmax
from scipy.special import softmax

import keras_distill
import reference
from backends import observe
from backends import wait
from keras_distill import losses
from keras_distill.data import cache as caching
from keras_distill.teachers.predictor import TargetPredictor
from keras_distill.teachers.teacher import Teacher


@pytest.fixture
def counted(make_model, monkeypatch):
    """Makes teachers, and counts the examples that they see."""
    seen: list[int] = []
    compute_targets = Teacher.compute_targets

    def observed(self, inputs, *args, **kwargs):
        inputs = observe(lambda x: seen.append(len(x)), inputs)
        return compute_targets(self, inputs, *args, **kwargs)

    monkeypatch.setattr(Teacher, "compute_targets", observed)
    # It labels some examples more often.
    monkeypatch.setattr(caching, "is_repeatable", lambda *args: True)

    def make(activation=None, seed=5):
        seen.clear()
        return make_model(activation, seed=seed)

    def count():
        wait()
        return sum(seen)

    return make, count


def distiller_of(student, teacher, **kwargs):
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        **{
            "optimizer": keras.optimizers.Adam(0.05),
            "loss": keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=-1
            ),
            "distillation_loss": losses.SoftTargetCrossentropy(3.0),
            "metrics": ["accuracy"],
            **kwargs,
        }
    )
    return distiller


FIT_ARGUMENTS = {
    "plain": {},
    "class_weight": {"class_weight": {0: 3.0, 2: 0.5}},
    "sample_weight": {"sample_weight": np.linspace(0, 2, 22)},
    "validation_split": {"validation_split": 0.3},
    "partly_labelled": {},
    "unlabelled": {},
}


@pytest.mark.parametrize(
    ("what", "activation", "several"),
    [
        ("plain", None, False),
        pytest.param("plain", "softmax", True, marks=pytest.mark.compiled),
        ("class_weight", "softmax", False),
        pytest.param("sample_weight", None, False, marks=pytest.mark.compiled),
        ("validation_split", None, True),
        ("partly_labelled", "softmax", False),
        ("unlabelled", None, True),
    ],
)
def test_equals_training_on_the_fly(
    data, make_model, activation, several, what
):
    x, y = data
    compile_arguments = {}
    if what == "partly_labelled":
        y = np.where(np.arange(len(y)) % 3, -1, y)
    if what == "unlabelled":
        y = None
        compile_arguments = {"loss": None, "metrics": None}
    results = []
    for cache in (True, False):
        teacher = make_model(activation, seed=5)
        if several:
            teacher = [teacher, make_model(seed=7)]
        student = make_model(seed=1)
        distiller = distiller_of(student, teacher, **compile_arguments)
        history = distiller.fit(
            x,
            y,
            batch_size=8,
            epochs=2,
            shuffle=False,
            verbose=0,
            cache=cache,
            **FIT_ARGUMENTS[what],
        ).history
        results.append((student.get_weights(), history))
    (cached, history), (expected, expected_history) = results
    for ours, theirs in zip(cached, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert set(history) == set(expected_history)
    for name, values in expected_history.items():
        np.testing.assert_allclose(
            history[name], values, rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_unrecognized_probabilities_stay_probabilities(data, make_model):
    x, _ = data
    model = make_model("softmax", seed=5)
    results = []
    for cache in (True, False):
        student = make_model(seed=1)
        distiller = distiller_of(
            student,
            lambda inputs: model(inputs) + 0.0,
            loss=None,
            metrics=None,
            distillation_loss=losses.SoftTargetCrossentropy(
                3.0, teacher_from_logits=False
            ),
        )
        distiller.fit(x, epochs=2, shuffle=False, verbose=0, cache=cache)
        results.append(student.get_weights()[0])
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def make_two_outputs(seed, as_list=False):
    inputs = keras.Input((6,))
    initializer = keras.initializers.RandomNormal(seed=seed)
    dense = keras.layers.Dense
    outputs = {
        "a": dense(3, kernel_initializer=initializer, name="a")(inputs),
        "b": dense(
            4, kernel_initializer=initializer, activation="softmax", name="b"
        )(inputs),
    }
    return keras.Model(inputs, list(outputs.values()) if as_list else outputs)


@pytest.mark.parametrize(
    ("labelled", "weights", "several", "as_list"),
    [
        (False, None, False, False),
        (False, "one", True, True),
        (True, "one", False, False),
        (True, "of_each_output", False, False),
        (True, "of_each_output", True, True),
    ],
)
def test_several_outputs(data, labelled, weights, several, as_list):
    x, _ = data
    labels = {"a": np.arange(22) % 3, "b": np.arange(22) % 4}
    weight = {"a": np.linspace(0, 2, 22), "b": np.linspace(1, 0, 22)}
    if as_list:
        labels, weight = list(labels.values()), list(weight.values())
    arguments = {"y": labels}
    if weights:
        arguments["sample_weight"] = (
            weight if weights == "of_each_output" else np.linspace(0, 2, 22)
        )
    compile_arguments = {"loss": None, "metrics": None}
    if labelled:
        of_labels = [
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.losses.SparseCategoricalCrossentropy(),
        ]
        compile_arguments |= {
            "loss": of_labels
            if as_list
            else dict(zip("ab", of_labels, strict=True)),
            "alpha": 0.5,
        }
    results = []
    for cache in ("auto", False):
        student = make_two_outputs(1, as_list)
        teacher = make_two_outputs(5, as_list)
        if several:
            teacher = [teacher, make_two_outputs(7, as_list)]
        distiller = distiller_of(student, teacher, **compile_arguments)
        logs = distiller.fit(
            x, **arguments, epochs=3, shuffle=False, verbose=0, cache=cache
        ).history
        results.append([*student.get_weights(), logs["loss"]])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_weights_of_different_outputs_raise(data):
    """A list may have a different order than the names of the outputs."""
    x, _ = data
    labels = {"a": np.arange(22) % 3, "b": np.arange(22) % 4}
    distiller = distiller_of(
        make_two_outputs(1), make_two_outputs(5), loss=None, metrics=None
    )
    for weights in ([np.ones(22)] * 2, {"a": np.ones(22)}):
        with pytest.raises(ValueError, match="structure"):
            distiller.fit(x, labels, sample_weight=weights, verbose=0)


def test_the_teacher_sees_each_example_once(data, make_model, counted):
    x, y = data
    make, seen = counted
    distiller = distiller_of(make_model(seed=1), make())
    distiller.fit(x, y, epochs=3, batch_size=4, verbose=0)
    assert seen() == 22
    # A second `fit` on the same inputs uses the cache.
    distiller.fit(np.copy(x), y, epochs=2, verbose=0, validation_data=(x, y))
    assert seen() == 22


def test_validation_examples_are_not_labelled(data, make_model, counted):
    make, seen = counted
    distiller = distiller_of(make_model(seed=1), make())
    distiller.fit(*data, validation_split=0.5, verbose=0)
    assert seen() == 11


@pytest.mark.parametrize("change", ["inputs", "weights", "teacher"])
def test_a_change_makes_a_new_cache(data, make_model, counted, change):
    x, y = np.copy(data[0]), data[1]
    make, _ = counted
    teacher, student = make(), make_model(seed=1)
    distiller = distiller_of(
        student, teacher, optimizer=keras.optimizers.SGD(0.0)
    )
    distiller.fit(x, y, verbose=0)
    if change == "inputs":
        x[3] += 1.0
    elif change == "weights":
        kernel, bias = teacher.get_weights()
        teacher.set_weights([2 * kernel, bias])
    else:
        distiller.teacher = teacher = make(seed=9)
    history = distiller.fit(x, y, batch_size=22, verbose=0).history
    expected = reference.crossentropy(
        teacher.predict(x, verbose=0), student.predict(x, verbose=0), 3.0
    )
    np.testing.assert_allclose(
        history["soft_loss"], [expected.mean()], rtol=1e-5
    )


def test_an_ensemble_is_averaged_at_the_temperature(data, make_model):
    """A cache for one temperature does not serve a different temperature."""
    x, y = data
    teachers = [make_model(seed=seed) for seed in (5, 9)]
    student = make_model(seed=1)
    loss = losses.SoftTargetCrossentropy(3.0)
    distiller = distiller_of(
        student,
        teachers,
        optimizer=keras.optimizers.SGD(0.0),
        distillation_loss=loss,
    )
    for temperature in (3.0, 1.0):
        loss.temperature = temperature
        histories = [
            distiller.fit(x, y, verbose=0, cache=cache).history["soft_loss"]
            for cache in (True, False)
        ]
        np.testing.assert_allclose(*histories, rtol=1e-5)

    class Changes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            loss.temperature = 1.0 + epoch

    with pytest.raises(ValueError, match=r"not hold at another.*cache=False"):
        distiller.fit(x, y, epochs=2, verbose=0, callbacks=[Changes()])
    distiller.fit(x, y, epochs=2, verbose=0, callbacks=[Changes()], cache=False)


def test_one_teachers_logits_serve_every_temperature(data, make_model, counted):
    x, y = data
    make, seen = counted
    loss = losses.SoftTargetCrossentropy(3.0)
    distiller = distiller_of(make_model(), make(), distillation_loss=loss)
    distiller.fit(x, y, verbose=0)
    loss.temperature = 1.0
    distiller.fit(x, y, verbose=0)
    assert seen() == 22


def test_above_the_budget_it_labels_on_the_fly(
    data, make_model, counted, monkeypatch
):
    x, y = data
    make, seen = counted
    # Four copies in float32 at the peak.
    size = 4 * (4 * 22 * 5)
    monkeypatch.setattr("keras_distill.data.cache.BUDGET", size - 1)
    distiller = distiller_of(make_model(), make())
    with pytest.warns(UserWarning, match="The teacher is called in each step"):
        distiller.fit(x, y, epochs=2, verbose=0)
    assert seen() == 44
    distiller.fit(x, y, epochs=3, verbose=0, cache=True)
    assert seen() == 66
    monkeypatch.setattr("keras_distill.data.cache.BUDGET", size)
    distiller = distiller_of(make_model(), make())
    distiller.fit(x, y, epochs=2, verbose=0)
    assert seen() == 22


@pytest.mark.parametrize("what", ["student", "teacher", "both"])
def test_models_without_known_outputs(data, counted, what):
    """Models without `keras.Input` are built by their first call."""
    x, y = data
    make, seen = counted

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = make()

        def call(self, inputs):
            return self.inner(inputs)

    student = keras.Sequential([keras.layers.Dense(5)])
    if what == "teacher":
        student = keras.Sequential([keras.Input((6,)), *student.layers])
    teacher = make() if what == "student" else Subclassed()
    distiller = distiller_of(student, teacher)
    before = seen()
    distiller.fit(x, y, epochs=3, batch_size=4, verbose=0)
    # One more example shows the shape of unknown outputs.
    assert seen() - before == 22 + (what != "student")


def test_the_estimate_equals_the_size_of_the_soft_targets(data, make_model):
    x, _ = data
    distiller = distiller_of(make_model(), make_model(seed=5))
    predictor = TargetPredictor(
        distiller._supervision.teacher, distiller._objective, distiller._check
    )
    estimated = caching.estimate_bytes(x, predictor)
    joined = distiller._supervision.cache.join(x, predictor, None, 0, True)
    (logits,) = joined.soft_targets.by_output
    assert estimated == 4 * logits.nbytes


def test_shared_weights_change_in_the_training(data):
    """The teacher is called in each step, as without a cache."""
    x, y = data
    results = []
    for cache in ("auto", False):
        inputs = keras.Input((6,))
        initializer = keras.initializers.RandomNormal(seed=3)
        features = keras.layers.Dense(7, kernel_initializer=initializer)(inputs)
        student, teacher = (
            keras.Model(
                inputs,
                keras.layers.Dense(
                    5,
                    kernel_initializer=keras.initializers.RandomNormal(seed=s),
                )(features),
            )
            for s in (1, 2)
        )
        with pytest.warns(UserWarning, match="shares trainable") as caught:
            distiller = distiller_of(
                student, keras_distill.Ensemble([teacher, teacher])
            )
        (warning,) = caught
        assert str(warning.message).count("kernel") == 1
        distiller.fit(x, y, epochs=3, shuffle=False, verbose=0, cache=cache)
        results.append(student.get_weights()[0])
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_an_ensemble_with_a_nested_function_is_not_cached(data, make_model):
    x, y = data
    calls: list[int] = []
    inner = keras_distill.Ensemble(
        [make_model(seed=5), lambda v: observe(calls.append, v)[:, :5]]
    )
    ensemble = keras_distill.Ensemble([inner, make_model(seed=7)])
    distiller = distiller_of(make_model(), ensemble)
    calls.clear()
    distiller.fit(x, y, batch_size=11, epochs=3, verbose=0)
    wait()
    assert len(calls) >= 6
    assert Teacher(ensemble).fingerprint() is None


def test_the_estimate_ignores_a_network_of_member_weights():
    """Its outputs are one number for each member, not for each class."""
    weighs = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(2, activation="softmax")]
    )
    members = [keras.Sequential([keras.layers.Dense(5)]) for _ in range(2)]
    teacher = Teacher(keras_distill.Ensemble(members, weights=weighs))
    assert teacher.find_outputs() is None


def test_a_list_with_a_corrected_flag(data, make_model):
    """A cache made with `teacher_from_logits=True` is not used again."""
    x, y = data
    hidden = []
    for seed in (5, 7):
        inputs = keras.Input((6,))
        outputs = make_model("softmax", seed=seed)(inputs)
        hidden.append(keras.Model(inputs, keras.layers.Rescaling(1.0)(outputs)))
    student = make_model(seed=1)
    distiller = distiller_of(
        student, hidden, optimizer=keras.optimizers.SGD(0.0)
    )
    with pytest.warns(UserWarning, match="teacher_from_logits=False"):
        distiller.fit(x, y, verbose=0)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=losses.SoftTargetCrossentropy(
            3.0, teacher_from_logits=False
        ),
    )
    history = distiller.fit(x, batch_size=22, verbose=0).history
    p = np.mean(
        [
            softmax(np.log(member.predict(x, verbose=0)) / 3.0, axis=-1)
            for member in hidden
        ],
        axis=0,
    )
    log_q = log_softmax(student.predict(x, verbose=0) / 3.0, axis=-1)
    expected = -9.0 * np.sum(p * log_q, axis=-1)
    np.testing.assert_allclose(
        history["soft_loss"], [expected.mean()], rtol=1e-5
    )


@pytest.mark.backend("tensorflow", reason="only TensorFlow has string tensors")
def test_strings(data):
    _, y = data
    words = tf.constant([[word] for word in "abc" * 7 + "d"])

    def model(seed):
        initializer = keras.initializers.RandomNormal(seed=seed)
        return keras.Sequential(
            [
                keras.Input((1,), dtype="string"),
                keras.layers.StringLookup(
                    vocabulary=list("abcd"), output_mode="multi_hot"
                ),
                keras.layers.Dense(5, kernel_initializer=initializer),
            ]
        )

    results = []
    for cache in ("auto", False):
        student = model(1)
        distiller = distiller_of(student, model(2))
        for _ in range(2):
            distiller.fit(words, y, shuffle=False, verbose=0, cache=cache)
        results.append(student.get_weights()[0])
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["dataset", "callable", "steps_per_epoch"])
def test_auto_does_not_cache_data_that_may_change(data, make_model, kind):
    x, y = data
    calls: list[int] = []
    model = make_model(seed=5)

    class Counts(keras.Model):
        def call(self, inputs):
            return model(observe(lambda x: calls.append(1), inputs))

    teacher = Counts()
    if kind == "callable":
        teacher = teacher.__call__
    arguments = {"x": x, "y": y, "batch_size": 11}
    if kind == "dataset":
        dataset = tf.data.Dataset.from_tensor_slices((x, y))
        arguments = {"x": dataset.batch(11)}
    if kind == "steps_per_epoch":
        arguments["steps_per_epoch"] = 2
    distiller = distiller_of(make_model(), teacher)
    calls.clear()
    distiller.fit(**arguments, epochs=3, verbose=0)
    wait()
    assert len(calls) == 6


def test_progress_is_shown(data, make_model, capsys):
    distiller = distiller_of(make_model(), make_model(seed=5))
    distiller.fit(*data, verbose=2)
    assert "transfer set, computed once" in capsys.readouterr().out
    distiller.fit(*data, verbose=0)
    assert capsys.readouterr().out == ""


def test_non_finite_logits_are_found_before_the_training(data, make_model):
    x, y = np.copy(data[0]), data[1]
    x[[4, 7], 0] = np.nan
    student = make_model()
    distiller = distiller_of(student, make_model(seed=5))
    before = student.get_weights()
    with pytest.raises(ValueError, match=r"for example 4 \(the first is 0"):
        distiller.fit(x, y, verbose=0)
    np.testing.assert_array_equal(student.get_weights()[0], before[0])


def test_cache_needs_one_process(data, make_model, monkeypatch):
    monkeypatch.setattr(caching, "has_several_processes", lambda model: True)
    distiller = distiller_of(make_model(), make_model(seed=5))
    with pytest.raises(ValueError, match=r"needs one process.*cache=True"):
        distiller.fit(*data, verbose=0, cache=True)
    distiller.fit(*data, verbose=0, cache=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache": "yes"}, '`cache` to be "auto", True or False'),
        (
            {"x": tf.data.Dataset.range(3), "y": None, "cache": True},
            "`cache=True` needs dense arrays",
        ),
    ],
)
def test_bad_arguments(data, make_model, arguments, message):
    x, y = data
    distiller = distiller_of(make_model(), make_model(seed=5))
    with pytest.raises(ValueError, match=message):
        distiller.fit(**{"x": x, "y": y, "verbose": 0, **arguments})


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [(None, 256), (1, 8), (8, 64), (32, 256), (300, 300)],
)
def test_the_teacher_gets_larger_batches(
    monkeypatch, make_model, batch_size, expected
):
    """Up to a limit, for teachers that need much memory."""
    seen = []
    predict = keras.Model.predict

    def record(self, x, batch_size=None, **kwargs):
        seen.append(batch_size)
        return predict(self, x, batch_size=batch_size, **kwargs)

    monkeypatch.setattr(keras.Model, "predict", record)
    distiller = distiller_of(make_model(seed=1), make_model(seed=5), loss=None)
    x = np.zeros((10, 6), "float32")
    distiller.fit(x, batch_size=batch_size, verbose=0)
    assert set(seen) == {expected}


class ActiveDropout(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(3)

    def call(self, inputs):
        return keras.random.dropout(inputs, 0.1, seed=self.seed)


class BatchStatistics(keras.layers.Layer):
    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0, keepdims=True)


class SizeOfBatch(keras.layers.Layer):
    def call(self, inputs):
        return inputs / ops.cast(ops.shape(inputs)[0], "float32")


@pytest.mark.compiled
@pytest.mark.parametrize(
    "layer",
    [ActiveDropout, BatchStatistics, SizeOfBatch, keras.layers.Activation],
)
def test_outputs_that_change_are_not_cached(make_model, layer):
    """The outputs for an example, in another call or another batch."""
    x = np.random.default_rng(0).normal(size=(30, 6)).astype("float32")
    is_repeatable = layer is keras.layers.Activation
    changing = layer("linear") if is_repeatable else layer()
    teacher = keras.Sequential([keras.Input((6,)), changing, make_model()])
    distiller = distiller_of(make_model(), teacher, loss=None)
    for cache in ("auto", True):
        expects_warning = cache == "auto" and not is_repeatable
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            distiller.fit(x, verbose=0, cache=cache)
        messages = [str(warning.message) for warning in caught]
        found = any("in each step instead of once" in m for m in messages)
        assert found == expects_warning
        assert distiller._supervision.cache.in_use != expects_warning


@pytest.mark.parametrize("change", ["attribute", "activation", "ensemble"])
def test_a_changed_teacher_labels_again(data, make_model, change):
    """Also if its weights stay the same."""
    x, _ = data

    class Scales(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = make_model(seed=5)
            self.factor = 1.0

        def call(self, inputs):
            return self.factor * self.inner(inputs)

    def set_activation():
        teacher.layers[-1].activation = keras.activations.tanh

    teacher, act = {
        "attribute": lambda: (
            model := Scales(),
            lambda: setattr(model, "factor", 3.0),
        ),
        "activation": lambda: (make_model(seed=5), set_activation),
        "ensemble": lambda: (
            model := keras_distill.Ensemble(
                [make_model(seed=5), make_model(seed=6)], weights=[1.0, 0.0]
            ),
            lambda: setattr(model, "member_weights", [0.0, 1.0]),
        ),
    }[change]()
    metric = keras_distill.metrics.TeacherKLDivergence(3.0)
    distiller = distiller_of(
        make_model(seed=1),
        teacher,
        optimizer=keras.optimizers.SGD(0.0),
        loss=None,
        metrics=None,
        distillation_metrics=[metric],
    )
    distiller.fit(x, verbose=0)
    act()
    cached = distiller.fit(x, verbose=0).history
    live = distiller.fit(x, verbose=0, cache=False).history
    name = "teacher_kl_divergence"
    np.testing.assert_allclose(cached[name], live[name], rtol=1e-4)


class AddOptional(keras.layers.Layer):
    def call(self, inputs, optional=None):
        return inputs if optional is None else inputs + optional


@pytest.mark.parametrize("cache", ["auto", True])
def test_an_optional_input_without_a_value(cache):
    def make(seed):
        given = keras.Input((6,), name="given")
        missing = keras.Input((6,), name="missing", optional=True)
        initializer = keras.initializers.RandomNormal(seed=seed)
        outputs = keras.layers.Dense(5, kernel_initializer=initializer)(
            AddOptional()(given, missing)
        )
        return keras.Model({"missing": missing, "given": given}, outputs)

    x = np.random.default_rng(0).normal(size=(30, 6)).astype("float32")
    x = {"given": x, "missing": None}
    histories = []
    for choice in (False, cache):
        distiller = distiller_of(make(0), make(1), loss=None)
        history = distiller.fit(x, verbose=0, cache=choice, shuffle=False)
        histories.append(history.history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-5)


@pytest.mark.backend("tensorflow", reason="Keras takes a `tf.Variable`")
def test_inputs_in_a_variable(data, make_model):
    x, _ = data
    histories = []
    for inputs in (x, tf.Variable(x)):
        distiller = distiller_of(make_model(), make_model(seed=5), loss=None)
        history = distiller.fit(inputs, verbose=0, shuffle=False)
        histories.append(history.history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-6)

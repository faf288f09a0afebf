import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax
from scipy.special import softmax

import keras_distill
from keras_distill.teachers.ensemble import add_to_arithmetic_mean
from keras_distill.teachers.ensemble import add_to_geometric_mean
from markers import saved_model


def arithmetic(members, weights, temperature):
    mean = None
    for logits, weight in zip(members, weights, strict=True):
        mean = add_to_arithmetic_mean(mean, logits, weight, temperature)
    return np.float64(mean)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("weights", [[0.25] * 4, [0.7, 0.1, 0.2, 0.0]])
def test_softmax_of_the_arithmetic_mean(temperature, size, weights):
    members = size * np.random.default_rng(0).normal(size=(4, 5, 6))
    members = members.astype("float32")
    logits = arithmetic(members, weights, temperature)
    mean = np.tensordot(
        weights, softmax(np.float64(members) / temperature, -1), 1
    )
    np.testing.assert_allclose(
        softmax(logits / temperature, -1),
        mean,
        rtol=3e-6 * max(1.0, size / temperature / 100),
        atol=1e-12,
    )


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_softmax_of_the_geometric_mean(temperature):
    members = np.random.default_rng(1).normal(size=(3, 5, 6))
    weights = [0.5, 0.3, 0.2]
    mean = None
    for logits, weight in zip(members.astype("float32"), weights, strict=True):
        mean = add_to_geometric_mean(mean, logits, weight)
    expected = np.exp(
        np.tensordot(weights, log_softmax(members / temperature, -1), 1)
    )
    np.testing.assert_allclose(
        softmax(np.float64(mean) / temperature, -1),
        expected / expected.sum(-1, keepdims=True),
        rtol=2e-6,
    )


def test_nothing_underflows():
    """Both members are sure, of different classes: half the mass each."""
    members = np.float32([[[1e4, 0.0, 0.0]], [[0.0, 1e4, 0.0]]])
    logits = arithmetic(members, [0.5, 0.5], 1.0)
    np.testing.assert_allclose(logits[0, :2], np.log([0.5, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(logits[0, 2], -1e4, rtol=1e-6)


@pytest.fixture
def members(make_model):
    """Two that end in logits, one in a softmax; two dtypes."""
    return [
        make_model(seed=1),
        make_model("softmax", seed=3),
        make_model(seed=5, dtype="float64"),
    ]


def probabilities(members, x, temperature=1.0):
    outputs = []
    for model in members:
        kernel, bias = map(np.float64, model.get_weights())
        outputs.append(softmax((x @ kernel + bias) / temperature, -1))
    return np.stack(outputs)


@pytest.mark.parametrize("weights", [None, [0.5, 0.2, 0.3]])
@pytest.mark.parametrize("combine", ["arithmetic", "geometric"])
def test_predict_and_evaluate(members, data, weights, combine):
    x, y = data
    ensemble = keras_distill.Ensemble(members, combine, weights)
    p = probabilities(members, x)
    shares = [1 / 3] * 3 if weights is None else weights
    if combine == "arithmetic":
        mean = np.tensordot(shares, p, 1)
    else:
        mean = np.exp(np.tensordot(shares, np.log(p), 1))
        mean /= mean.sum(-1, keepdims=True)
    logits = ensemble.predict(x, verbose=0)
    np.testing.assert_allclose(softmax(logits, -1), mean, rtol=1e-5)
    ensemble.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    logs = ensemble.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        logs["loss"], -np.log(mean[np.arange(len(y)), y]).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        logs["accuracy"], np.mean(mean.argmax(-1) == y), rtol=1e-6
    )


def test_weights_of_each_sample(members, data):
    x, _ = data

    def weigh(inputs):
        first = keras.ops.sigmoid(inputs[:, 0])
        rest = (1 - first) / 2
        return keras.ops.stack([first, rest, rest], axis=1)

    logits = keras_distill.Ensemble(members, weights=weigh).predict(
        x, verbose=0
    )
    weights = np.asarray(weigh(x)).T[:, :, None]
    mean = np.sum(weights * probabilities(members, x), 0)
    np.testing.assert_allclose(softmax(logits, -1), mean, rtol=1e-5)


def test_random_weights_are_the_same_for_all_members_and_outputs(data):
    x, _ = data
    calls = []

    def weigh(inputs):
        calls.append(inputs)
        share = np.random.default_rng(len(calls)).uniform()
        return np.tile(np.float32([share, 1 - share]), (len(inputs), 1))

    def member(sign):
        return lambda inputs: {
            name: sign * inputs[:, :3] for name in ("a", "b")
        }

    ensemble = keras_distill.Ensemble([member(1), member(-1)], weights=weigh)
    logits = ensemble(x)
    assert len(calls) == 1
    share = np.random.default_rng(1).uniform()
    mean = share * softmax(x[:, :3], -1) + (1 - share) * softmax(-x[:, :3], -1)
    for name in ("a", "b"):
        np.testing.assert_allclose(
            softmax(np.asarray(logits[name]), -1), mean, rtol=1e-5
        )


def test_members_that_return_probabilities_nobody_sees(members, data):
    x, _ = data
    callables = [
        lambda inputs, m=m: keras.ops.softmax(
            keras.ops.cast(m(inputs), "float32")
        )
        for m in (members[0], members[2])
    ]
    ensemble = keras_distill.Ensemble(callables, from_logits=False)
    np.testing.assert_allclose(
        softmax(ensemble.predict(x, verbose=0), -1),
        probabilities([members[0], members[2]], x).mean(0),
        rtol=1e-5,
    )


@saved_model
def test_save_load_and_export(members, data, tmp_path):
    x, _ = data
    ensemble = keras_distill.Ensemble(
        members, "geometric", weights=[0.5, 0.25, 0.25], name="three"
    )
    expected = ensemble.predict(x, verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    assert loaded.combine == "geometric"
    assert loaded.member_weights == [0.5, 0.25, 0.25]
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    # One that was never called on data.
    fresh = keras_distill.Ensemble(
        members, "geometric", weights=[0.5, 0.25, 0.25]
    )
    fresh.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "temperature"),
    [
        ("list", 1.0),
        pytest.param("list", 6.0, marks=pytest.mark.compiled),
        ("ensemble", 6.0),
    ],
)
def test_as_a_teacher(members, data, make_model, temperature, form):
    x, _ = data
    student = make_model(seed=9)
    teacher = members if form == "list" else keras_distill.Ensemble(members)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    assert distiller.teacher is teacher
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
            temperature
        ),
    )
    logs = distiller.train_on_batch(x, return_dict=True)
    p = probabilities(members, x, temperature).mean(0)
    z = student.predict(x, verbose=0).astype("float64")
    expected = -(temperature**2) * np.sum(
        p * log_softmax(z / temperature, -1), -1
    )
    np.testing.assert_allclose(logs["loss"], expected.mean(), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_of_ensembles_is_the_mean_of_all(data, temperature):
    x, _ = data
    models = []
    for seed in range(3):
        initializer = keras.initializers.RandomNormal(stddev=2.0, seed=seed)
        models.append(
            keras.Sequential(
                [
                    keras.Input((6,)),
                    keras.layers.Dense(5, kernel_initializer=initializer),
                ]
            )
        )
    nested = keras_distill.Ensemble(
        [keras_distill.Ensemble(models[:2]), models[2]], weights=[2 / 3, 1 / 3]
    )
    expected = np.mean(
        [
            softmax(np.float64(each.predict(x, verbose=0)) / temperature, -1)
            for each in models
        ],
        axis=0,
    )
    for teacher in (nested, keras_distill.Ensemble([nested])):
        logits = keras_distill.predict_logits(
            teacher, x, temperature=temperature, verbose=0
        )
        np.testing.assert_allclose(
            softmax(np.float64(logits) / temperature, -1), expected, rtol=1e-5
        )


def test_a_geometric_mean_of_arithmetic_means_holds_at_one_temperature(members):
    outer = keras_distill.Ensemble(
        [keras_distill.Ensemble(members[:2]), members[2]], combine="geometric"
    )
    assert outer.averages_at_a_temperature
    assert not keras_distill.Ensemble(
        members, combine="geometric"
    ).averages_at_a_temperature


@pytest.mark.backend(
    "tensorflow", reason="the others run in program order already"
)
@pytest.mark.compiled
def test_members_run_one_after_another(data):
    """In a compiled step none begins before the one before it is done."""
    order = []

    class Notes(keras.layers.Layer):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def call(self, inputs):
            def note(x):
                order.append(self.number)
                return x

            outputs = tf.numpy_function(note, [inputs], tf.float32)
            return tf.ensure_shape(outputs, inputs.shape)

    models = []
    for number in range(6):
        inputs = keras.Input((6,))
        hidden = Notes((number, "begins"))(inputs)
        hidden = keras.layers.Dense(5)(hidden)
        models.append(keras.Model(inputs, Notes((number, "ends"))(hidden)))
    ensemble = keras_distill.Ensemble(models)
    order.clear()
    tf.function(ensemble)(tf.constant(data[0]))
    assert order == [
        (number, what) for number in range(6) for what in ("begins", "ends")
    ]


def test_several_outputs(data):
    x, _ = data

    def model():
        inputs = keras.Input((6,))
        return keras.Model(
            inputs,
            {
                "a": keras.layers.Dense(3)(inputs),
                "b": keras.layers.Dense(2, activation="softmax")(inputs),
            },
        )

    models = [model(), model()]
    logits = keras_distill.Ensemble(models).predict(x, verbose=0)
    outputs = [each.predict(x, verbose=0) for each in models]
    np.testing.assert_allclose(
        softmax(logits["a"], -1),
        np.mean([softmax(each["a"], -1) for each in outputs], 0),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        softmax(logits["b"], -1),
        np.mean([each["b"] for each in outputs], 0),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": []}, "a list of at least one model"),
        ({"models": "abc"}, "a list of at least one model"),
        ({"models": [3]}, "or a callable. Received: 3"),
        ({"combine": "arithmetical"}, "Did you mean 'arithmetic'"),
        ({"weights": [0.5, 0.6]}, "2 numbers that sum to 1"),
        ({"weights": [1.0]}, "2 numbers that sum to 1"),
        ({"weights": [1.5, -0.5]}, "at least 0"),
        ({"axis": 1.5}, "Received: axis=1.5"),
    ],
)
def test_bad_arguments(make_model, arguments, message):
    arguments = {"models": [make_model(), make_model()], **arguments}
    with pytest.raises(ValueError, match=message):
        keras_distill.Ensemble(**arguments)


def test_members_that_do_not_fit_together(make_model):
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="to have the same shapes"):
        keras_distill.Ensemble([make_model(), other])


def test_saving_ensemble_of_functions_raises(make_model):
    ensemble = keras_distill.Ensemble([lambda x: x])
    with pytest.raises(NotImplementedError, match="can be saved only if"):
        ensemble.get_config()


class Constant(keras.Model):
    """Says the same whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits.astype("float32")

    def call(self, inputs):
        return keras.ops.convert_to_tensor(self.logits)


@pytest.mark.parametrize(
    "combine",
    [
        list,
        keras_distill.Ensemble,
        lambda models: keras_distill.Ensemble(models, axis=1),
        lambda models: [keras_distill.Ensemble(models, axis=-2)],
    ],
    ids=["list", "ensemble", "the same axis", "ensemble in a list"],
)
def test_an_ensemble_has_the_axis_of_the_loss(combine):
    first, second = 3 * np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    distiller, x = distill_rows(combine([Constant(first), Constant(second)]))
    soft = keras_distill.losses.SoftTargetCrossentropy
    distiller.compile("sgd", distillation_loss=soft(2.0, axis=1))
    found = distiller.train_on_batch(x, return_dict=True)["soft_loss"]
    p = (softmax(first / 2, axis=1) + softmax(second / 2, axis=1)) / 2
    log_q = log_softmax(np.float64(x).reshape(5, 3, 4) / 2, axis=1)
    expected = 4 * np.mean(-np.sum(p * log_q, axis=1))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    distiller.compile(
        "sgd", distillation_loss=[soft(2.0, axis=1), soft(2.0, axis=2)]
    )
    with pytest.raises(ValueError, match=r"same `axis`. Received: \[1, 2\]"):
        distiller.train_on_batch(x)


def test_another_axis_than_that_of_the_loss():
    def member(x):
        return keras.ops.zeros((keras.ops.shape(x)[0], 3, 4))

    distiller, x = distill_rows(keras_distill.Ensemble([member], axis=2))
    loss = keras_distill.losses.SoftTargetCrossentropy(2.0, axis=1)
    distiller.compile("sgd", distillation_loss=loss)
    with pytest.raises(ValueError, match="Received: axis=2 instead of 1"):
        distiller.fit(x, verbose=0)


def test_a_member_has_the_axis_of_its_ensemble():
    first, second = 3 * np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    members = [Constant(first), Constant(second)]
    inner = keras_distill.Ensemble(members)
    x = np.zeros((5, 1), "float32")
    outer = keras_distill.Ensemble([inner], axis=1)
    found = keras.ops.convert_to_numpy(outer(x))
    mean = (softmax(first, axis=1) + softmax(second, axis=1)) / 2
    np.testing.assert_allclose(softmax(found, axis=1), mean, rtol=1e-5)
    inner = keras_distill.Ensemble(members, axis=2)
    with pytest.raises(ValueError, match="Received: axis=2 instead of 1"):
        keras_distill.Ensemble([inner], axis=1)(x)


def distill_rows(teacher):
    """Returns a distiller of outputs of shape (5, 3, 4), and its inputs."""
    student = keras.Sequential(
        [keras.Input((12,)), keras.layers.Reshape((3, 4))]
    )
    x = np.random.default_rng(1).normal(size=(5, 12)).astype("float32")
    return keras_distill.Distiller(student=student, teacher=teacher), x


def test_a_list_is_labelled_anew_for_another_axis():
    first, second = 3 * np.random.default_rng(0).normal(size=(2, 5, 3, 3))
    student = keras.Sequential(
        [keras.Input((9,)), keras.layers.Reshape((3, 3))]
    )
    distiller = keras_distill.Distiller(
        student=student, teacher=[Constant(first), Constant(second)]
    )
    x = np.random.default_rng(1).normal(size=(5, 9)).astype("float32")
    for axis in (1, 2):
        loss = keras_distill.losses.SoftTargetCrossentropy(2.0, axis=axis)
        distiller.compile("sgd", distillation_loss=loss)
        found = distiller.fit(x, cache=True, verbose=0).history["soft_loss"]
        p = (softmax(first / 2, axis) + softmax(second / 2, axis)) / 2
        log_q = log_softmax(np.float64(x).reshape(5, 3, 3) / 2, axis)
        expected = 4 * np.mean(-np.sum(p * log_q, axis=axis))
        assert found == pytest.approx([expected], rel=1e-5)


def test_geometric_mean_holds_at_several_temperatures(
    members, data, make_model
):
    x, _ = data
    student = make_model(seed=9)
    ensemble = keras_distill.Ensemble(members, "geometric")
    distiller = keras_distill.Distiller(student=student, teacher=ensemble)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        distillation_loss=[
            keras_distill.losses.SoftTargetCrossentropy(T) for T in (2.0, 5.0)
        ],
    )
    logs = distiller.fit(x, cache=False, verbose=0).history
    v = np.float64(ensemble.predict(x, verbose=0))
    z = np.float64(student.predict(x, verbose=0))
    expected = sum(
        np.mean(
            -(T**2) * np.sum(softmax(v / T, -1) * log_softmax(z / T, -1), -1)
        )
        for T in (2.0, 5.0)
    )
    assert logs["soft_loss"] == pytest.approx([expected], rel=1e-5)


def test_a_metric_of_a_student_with_unknown_outputs(members, data):
    """The metric has another temperature than the mean."""

    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(5)

        def call(self, inputs):
            return self.head(inputs)

    x, _ = data
    distiller = keras_distill.Distiller(student=Student(), teacher=members)
    distiller.compile("sgd", distillation_metrics=["teacher_kl_divergence"])
    with pytest.raises(ValueError, match="pass `temperature=4` to the metric"):
        distiller.fit(x, epochs=2, batch_size=4, verbose=0)


def test_the_mask_of_the_members_is_kept():
    keras.utils.set_random_seed(0)
    member = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(5, 3, mask_zero=True),
            keras.layers.Dense(3),
        ]
    )
    x = np.array([[1, 2, 3, 4], [1, 2, 0, 0], [3, 0, 0, 0]], "int32")
    y = np.random.default_rng(0).integers(0, 3, (3, 4))
    logs = []
    for model in (member, keras_distill.Ensemble([member, member])):
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        logs.append(model.evaluate(x, y, verbose=0, return_dict=True))
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
    z = np.float64(member.predict(x, verbose=0))
    counts = x != 0
    log_q = log_softmax(z, axis=-1)
    crossentropy = -np.take_along_axis(log_q, y[..., None], -1)[..., 0]
    assert logs[1]["loss"] == pytest.approx(
        crossentropy[counts].mean(), rel=1e-5
    )


def test_the_temperatures_of_an_output_stay_the_same(data, make_model):
    x, _ = data
    distiller = keras_distill.Distiller(
        student=make_model(seed=1),
        teacher=[make_model(seed=5), make_model(seed=6)],
    )
    distiller.compile(
        "sgd",
        distillation_loss=[
            keras_distill.losses.SoftTargetCrossentropy(4.0),
            keras_distill.losses.SoftTargetKLDivergence(4.0),
        ],
    )
    distiller.train_on_batch(x)
    first, second = distiller.distillation_loss
    second.temperature = 2.0
    with pytest.raises(ValueError, match="need the same `temperature`"):
        distiller.train_on_batch(x)
    first.temperature = 2.0
    distiller.train_on_batch(x)

"""`distillation_metrics` and component losses, in `fit` and `evaluate`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from scipy.special import softmax

import keras_distill
import reference
from keras_distill import losses
from keras_distill import metrics
from markers import fast_compiler
from markers import several_steps

BATCH = 8


class Counted:
    """A teacher that counts its calls."""

    def __init__(self, model):
        self.model = model
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return self.model(x, training=False)


def compile_distiller(student, teacher, **kwargs):
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    settings = {
        "optimizer": keras.optimizers.SGD(0.0),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "distillation_loss": losses.SoftTargetCrossentropy(3.0),
        "alpha": 0.7,
        "distillation_metrics": [
            metrics.TeacherAgreement(),
            metrics.TeacherKLDivergence(3.0),
            metrics.SoftTargetEntropy(3.0),
        ],
        **kwargs,
    }
    distiller.compile(**settings)
    return distiller


def by_hand(teacher_logits, student_logits, weights=None):
    z, v = student_logits, teacher_logits
    per_sample = {
        "teacher_agreement": z.argmax(-1) == v.argmax(-1),
        "teacher_kl_divergence": reference.kl_divergence(v, z, 3.0) / 9,
        "soft_target_entropy": reference.entropy(v, 3.0),
    }
    return {
        name: np.average(values, weights=weights)
        for name, values in per_sample.items()
    }


def assert_logs(logs, expected, prefix=""):
    for name, value in expected.items():
        np.testing.assert_allclose(
            np.ravel(logs[prefix + name])[-1], value, rtol=1e-4, err_msg=name
        )


@pytest.mark.compiled
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"as_dataset": True, "run_eagerly": True},
        pytest.param({"jit_compile": True}, marks=fast_compiler),
        pytest.param(
            {"cache": False, "steps_per_execution": 2}, marks=several_steps
        ),
    ],
    ids=str,
)
def test_fit_and_evaluate(data, make_model, options):
    x, y = data
    compiling = {
        key: options[key]
        for key in ("jit_compile", "run_eagerly", "steps_per_execution")
        if key in options
    }
    student, teacher = make_model(seed=1), make_model(seed=5)
    distiller = compile_distiller(student, teacher, **compiling)
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    if options.get("as_dataset"):
        arguments = {
            "x": tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
        }
    else:
        arguments = {
            "x": x,
            "y": y,
            "batch_size": BATCH,
            "cache": options.get("cache", "auto"),
        }
    logs = distiller.fit(
        **arguments, validation_data=(x[:13], y[:13]), verbose=0
    ).history
    assert_logs(logs, by_hand(v, z))
    assert_logs(logs, by_hand(v[:13], z[:13]), "val_")
    evaluated = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert_logs(evaluated, by_hand(v, z))
    soft = reference.crossentropy(v, z, 3.0).mean()
    hard = reference.hard_crossentropy(y, z).mean()
    assert evaluated["soft_loss"] == pytest.approx(soft, rel=1e-5)
    assert evaluated["hard_loss"] == pytest.approx(hard, rel=1e-5)
    assert evaluated["loss"] == pytest.approx(0.7 * soft + 0.3 * hard, 1e-5)


def test_sample_weights(data, make_model):
    x, y = data
    weight = np.random.default_rng(0).uniform(0, 2, len(x)).astype("float32")
    student, teacher = make_model(seed=1), make_model(seed=5)
    distiller = compile_distiller(student, teacher)
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    for cache in (True, False):
        logs = distiller.fit(
            x, y, BATCH, sample_weight=weight, verbose=0, cache=cache
        ).history
        assert_logs(logs, by_hand(v, z, weight))
    logs = distiller.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    assert_logs(logs, by_hand(v, z, weight))


def test_evaluate_calls_the_teacher_only_for_metrics(data, make_model):
    x, y = data
    teacher = Counted(make_model(seed=5))
    for asked in (None, ["teacher_agreement"]):
        distiller = compile_distiller(
            make_model(), teacher, distillation_metrics=asked, run_eagerly=True
        )
        teacher.calls = 0
        logs = distiller.evaluate(
            x, y, batch_size=BATCH, verbose=0, return_dict=True
        )
        assert teacher.calls == (3 if asked else 0)
        assert ("teacher_agreement" in logs) == bool(asked)
        assert ("soft_loss" in logs) == bool(asked)


def test_data_without_labels_is_evaluated(data, make_model):
    """Agreement needs no labels, even with a hard loss."""
    x, _ = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    distiller = compile_distiller(student, teacher)
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    assert_logs(logs, by_hand(v, z))
    assert "loss" not in logs
    assert "hard_loss" not in logs


def test_without_a_teacher_and_without_soft_targets(data, make_model):
    x, y = data
    distiller = compile_distiller(make_model(), None)
    v = make_model(seed=5).predict(x, verbose=0)
    logs = distiller.fit(
        x,
        y,
        soft_targets=v,
        validation_data=(x, y),
        verbose=0,
    ).history
    assert "teacher_agreement" in logs
    assert {name for name in logs if name.startswith("val_")} == {
        "val_loss",
        "val_hard_loss",
    }


def test_a_replaced_teacher_is_used(data, make_model):
    x, y = data
    student = make_model(seed=1)
    distiller = compile_distiller(student, make_model(seed=5))
    distiller.evaluate(x, y, verbose=0)
    distiller.teacher = student_copy = keras.models.clone_model(student)
    student_copy.set_weights(student.get_weights())
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["teacher_agreement"] == 1.0
    assert logs["teacher_kl_divergence"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("cache", [True, False])
def test_ensembles_at_the_temperature_of_the_loss(data, make_model, cache):
    x, y = data
    student = make_model(seed=1)
    members = [make_model(seed=5), make_model(seed=8)]
    distiller = compile_distiller(student, members)
    v = [member.predict(x, verbose=0) for member in members]
    mean = 3 * (
        logsumexp(
            [np.log(softmax(np.float64(logits) / 3, -1)) for logits in v],
            axis=0,
        )
        - np.log(2)
    )
    logs = distiller.fit(x, y, BATCH, verbose=0, cache=cache).history
    assert_logs(logs, by_hand(mean, student.predict(x, verbose=0)))
    # The mean does not hold at another temperature.
    distiller = compile_distiller(
        student,
        members,
        distillation_metrics=[metrics.TeacherKLDivergence(1.0)],
    )
    before = student.get_weights()
    message = r"`temperature=3` to the metric 'teacher_kl_divergence'"
    with pytest.raises(ValueError, match=message):
        distiller.fit(x, y, BATCH, verbose=0, cache=cache)
    with pytest.raises(ValueError, match=message):
        distiller.evaluate(x, y, verbose=0)
    for now, then in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_student_that_ends_in_a_softmax(data, make_model):
    """The metrics get its logits, like the losses."""
    x, y = data
    student, teacher = make_model("softmax", seed=1), make_model(seed=5)
    student.layers[-1].kernel.assign(100 * student.layers[-1].kernel)
    distiller = compile_distiller(
        student,
        teacher,
        loss="sparse_categorical_crossentropy",
        metrics=[
            metrics.BrierScore(from_logits=False),
            metrics.ExpectedCalibrationError(from_logits=False),
        ],
    )
    kernel, bias = student.get_weights()
    z = np.float64(x) @ kernel + bias
    v = teacher.predict(x, verbose=0)
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert_logs(logs, by_hand(v, z))
    assert logs["brier_score"] == pytest.approx(
        reference.brier(y, z).mean(), rel=1e-4
    )
    assert logs["expected_calibration_error"] == pytest.approx(
        reference.calibration_error(y, z, 15), rel=1e-3
    )


def two_outputs(seed):
    inputs = keras.Input((6,))
    initializer = keras.initializers.RandomNormal(seed=seed)
    return keras.Model(
        inputs,
        {
            "a": keras.layers.Dense(3, kernel_initializer=initializer)(inputs),
            "b": keras.layers.Dense(4, kernel_initializer=initializer)(inputs),
        },
    )


def test_the_mean_of_an_output_has_the_temperature_of_its_own_loss():
    distiller = keras_distill.Distiller(
        student=two_outputs(1), teacher=[two_outputs(2), two_outputs(3)]
    )
    distiller.compile(
        "sgd",
        distillation_loss={
            "a": losses.SoftTargetCrossentropy(2.0),
            "b": losses.SoftTargetCrossentropy(4.0),
        },
        distillation_metrics={"a": metrics.TeacherKLDivergence(4.0)},
    )
    message = r"`temperature=2` to the metric 'a_teacher_kl_divergence'"
    with pytest.raises(ValueError, match=message):
        distiller.fit(np.ones((4, 6), "float32"), verbose=0)


def test_several_outputs(data):
    x, _ = data
    student, teacher = two_outputs(1), two_outputs(2)
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    agreement = {
        name: np.mean(z[name].argmax(-1) == v[name].argmax(-1)) for name in z
    }
    for given, names in (
        ("teacher_agreement", ["a_teacher_agreement", "b_teacher_agreement"]),
        ({"b": "teacher_agreement"}, ["b_teacher_agreement"]),
        ([["teacher_agreement"], None], ["a_teacher_agreement"]),
    ):
        distiller = compile_distiller(
            student, teacher, loss=None, alpha=1.0, distillation_metrics=given
        )
        logs = distiller.fit(x, verbose=0).history
        found = sorted(name for name in logs if "agreement" in name)
        assert found == names
        for name in names:
            assert logs[name] == pytest.approx([agreement[name[0]]])
    with pytest.raises(ValueError, match=r"names of the student.*'c'"):
        compile_distiller(
            student, teacher, distillation_metrics={"c": "teacher_agreement"}
        )


def test_copies_have_all_arguments(data):
    class Gap(metrics.DistillationMetric):
        def __init__(self, margin=1.0, name="gap", **kwargs):
            super().__init__(name=name, **kwargs)
            self.margin = margin

        def measure(self, teacher_logits, student_logits):
            return keras.ops.full_like(student_logits[..., 0], self.margin)

    class Saved(Gap):
        def get_config(self):
            return {**super().get_config(), "margin": self.margin}

    x, _ = data
    distiller = compile_distiller(
        two_outputs(1),
        two_outputs(2),
        loss=None,
        alpha=1.0,
        distillation_metrics={"a": Saved(margin=7.0)},
    )
    assert distiller.fit(x, verbose=0).history["a_gap"] == [7.0]
    with pytest.raises(ValueError, match=r"`get_config` of Gap.*\['margin'\]"):
        compile_distiller(
            two_outputs(1),
            two_outputs(2),
            distillation_metrics={"a": Gap(margin=7.0)},
        )


def test_component_losses_are_logged_by_name(data, make_model):
    x, _ = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    distiller = compile_distiller(
        student,
        teacher,
        loss=None,
        alpha=1.0,
        distillation_loss=[
            losses.SoftTargetCrossentropy(2.0),
            losses.LogitMatching(),
            losses.SoftTargetCrossentropy(5.0),
        ],
        distillation_loss_weights=[1.0, 0.5, 0.25],
    )
    logs = distiller.fit(x, batch_size=BATCH, verbose=0).history
    parts = {
        "soft_target_crossentropy": reference.crossentropy(v, z, 2.0).mean(),
        "logit_matching": reference.logit_matching(v, z).mean(),
        "soft_target_crossentropy_1": reference.crossentropy(v, z, 5.0).mean(),
    }
    assert_logs(logs, parts)
    first, second, third = parts.values()
    assert logs["soft_loss"] == pytest.approx(
        [first + 0.5 * second + 0.25 * third], rel=1e-5
    )
    assert logs["soft_target_crossentropy_temperature"] == [2.0]
    assert logs["soft_target_crossentropy_1_temperature"] == [5.0]
    evaluated = distiller.evaluate(x, verbose=0, return_dict=True)
    assert_logs(evaluated, parts)
    outputs = compile_distiller(
        two_outputs(1),
        two_outputs(2),
        loss=None,
        alpha=1.0,
        distillation_metrics=None,
    )
    logs = outputs.fit(x, verbose=0).history
    assert logs["soft_loss"][0] == pytest.approx(
        logs["a_soft_target_crossentropy"][0]
        + logs["b_soft_target_crossentropy"][0],
        rel=1e-5,
    )


class Subclassed(keras.Model):
    """A student with unknown outputs before the first call."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(5)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("on_batch", marks=pytest.mark.compiled),
        pytest.param("cache", marks=pytest.mark.compiled),
        "call",
        "own",
    ],
)
def test_a_student_that_is_not_built(data, make_model, how):
    """The soft targets come from the teacher, a cache or the data."""
    x, y = data
    distiller = compile_distiller(
        Subclassed(),
        make_model(seed=5),
        distillation_loss=["soft_target_crossentropy", "logit_matching"],
    )
    distiller.distillation_loss[0].temperature = 3.0
    v = distiller.teacher.predict(x, verbose=0)
    if how == "on_batch":
        logs = distiller.train_on_batch(x, y, return_dict=True)
    elif how == "own":
        logs = distiller.fit(x, y, soft_targets=v, verbose=0).history
    else:
        logs = distiller.fit(x, y, verbose=0, cache=how == "cache").history
    z = distiller.student.predict(x, verbose=0)
    assert_logs(logs, by_hand(v, z))
    assert_logs(logs, {"logit_matching": reference.logit_matching(v, z).mean()})


def test_metrics_are_reset_each_epoch_and_survive_saving(
    data, make_model, tmp_path
):
    x, y = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    distiller = compile_distiller(
        student, teacher, optimizer=keras.optimizers.SGD(0.5)
    )
    history = distiller.fit(x, y, epochs=3, batch_size=len(x), verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    again.teacher = teacher
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    assert_logs(
        again.evaluate(x, y, verbose=0, return_dict=True), by_hand(v, z)
    )
    # The metrics of an epoch are those before its only step.
    later = again.fit(x, y, batch_size=len(x), verbose=0).history
    assert_logs(later, by_hand(v, z))
    divergence = history.history["teacher_kl_divergence"]
    assert divergence == sorted(divergence, reverse=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["agreement"], "Unknown `distillation_metrics`"),
        ([keras.metrics.Accuracy()], "compare with the labels as `metrics`"),
        (
            [metrics.TeacherKLDivergence(1.0), metrics.TeacherKLDivergence(4)],
            "twice",
        ),
    ],
)
def test_bad_input(make_model, given, message):
    with pytest.raises(ValueError, match=message):
        compile_distiller(
            make_model(), make_model(seed=2), distillation_metrics=given
        )


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("fit", marks=pytest.mark.compiled),
        "train_on_batch",
        "evaluate",
    ],
)
def test_first_batch_without_labels(data, make_model, way):
    """Keras builds "accuracy" from the first labels that it gets."""
    x, y = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    distiller = compile_distiller(
        student, teacher, alpha=1.0, metrics=["accuracy"]
    )
    step = getattr(distiller, way)
    quiet = {} if way == "train_on_batch" else {"verbose": 0}
    step(x, **quiet)
    logs = step(x, y, **quiet)
    accuracy = np.mean(student.predict(x, verbose=0).argmax(-1) == y)
    if way == "fit":
        assert logs.history["accuracy"] == pytest.approx([accuracy])
    else:
        assert any(np.isclose(value, accuracy) for value in logs)


def test_evaluate_warns_without_a_teacher(data, make_model):
    x, y = data
    distiller = compile_distiller(make_model(), None)
    with pytest.warns(UserWarning, match=r"set `distiller\.teacher`"):
        logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "hard_loss"}


def test_evaluate_raises_an_error_for_a_wrong_label(data, make_model):
    x, y = data
    y = y.copy()
    y[17] = 99
    distiller = compile_distiller(make_model(), None, distillation_metrics=None)
    distiller.evaluate(x[:4], y[:4], verbose=0)
    with pytest.raises(ValueError, match=r"from 0 to 4.*a label of 99"):
        distiller.evaluate(x, y, batch_size=BATCH, verbose=0)


def test_metrics_use_from_logits_of_the_loss(data, make_model):
    """Only the loss has `from_logits=False`."""
    x, _ = data
    student, teacher = make_model(seed=1), make_model(seed=5)
    z, v = (model.predict(x, verbose=0) for model in (student, teacher))
    expected = by_hand(v, z)
    for hidden, flags in (
        ((student, teacher), {}),
        ((student, None), {"teacher_from_logits": False}),
    ):
        distiller = compile_distiller(
            hidden[0],
            hidden[1] or (lambda x: keras.ops.softmax(teacher(x))),
            loss=None,
            alpha=1.0,
            distillation_loss=losses.SoftTargetCrossentropy(3.0, **flags),
        )
        logs = distiller.fit(x, verbose=0).history
        assert_logs(logs, expected)
        logs = distiller.evaluate(x, verbose=0, return_dict=True)
        assert_logs(logs, expected)


@pytest.mark.parametrize("several", [False, True])
def test_callbacks_know_which_direction_is_better(data, make_model, several):
    x, y = data
    monitor = "val_teacher_agreement"
    student, teacher = make_model(), make_model(seed=5)
    options = {}
    if several:
        monitor = "val_a_teacher_agreement"
        student, teacher = two_outputs(1), two_outputs(2)
        options = {"loss": None, "alpha": 1.0}
        y = {"a": y % 3, "b": y % 4}
    distiller = compile_distiller(
        student,
        teacher,
        distillation_metrics="teacher_agreement",
        **options,
    )
    stopping = keras.callbacks.EarlyStopping(monitor)
    distiller.fit(
        x,
        None if several else y,
        epochs=2,
        validation_data=(x, y),
        callbacks=[stopping],
        verbose=0,
    )
    assert stopping.monitor_op is keras.ops.greater


def test_a_metric_of_ones_own_has_the_same_name_each_time():
    class LargestGap(keras_distill.metrics.DistillationMetric):
        def measure(self, teacher_logits, student_logits):
            gap = keras.ops.abs(teacher_logits - student_logits)
            return keras.ops.max(gap, axis=self.axis)

    assert [LargestGap().name for _ in range(2)] == ["largest_gap"] * 2


@pytest.mark.parametrize("name", ["loss", "temperature"])
def test_names_of_the_logs_are_reserved(make_model, name):
    with pytest.raises(ValueError, match=name):
        compile_distiller(
            make_model(),
            make_model(seed=2),
            distillation_metrics=[metrics.TeacherAgreement(name=name)],
        )


@pytest.mark.compiled
def test_batches_without_labels_compile_once(data, make_model):
    x, y = data
    distiller = compile_distiller(
        make_model(), make_model(seed=5), alpha=1.0, metrics=["accuracy"]
    )
    traces = []

    class CountsTraces(keras.Model):
        def call(self, inputs):
            traces.append(1)
            return teacher(inputs)

    teacher, distiller.teacher = distiller.teacher, CountsTraces()
    distiller.train_on_batch(x)
    distiller.test_on_batch(x)
    before = len(traces)
    distiller.train_on_batch(x)
    distiller.test_on_batch(x)
    if keras.backend.backend() != "torch":
        assert len(traces) == before
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert "accuracy" in logs


@pytest.mark.parametrize("cache", [True, False])
def test_metrics_do_not_change_the_loss(data, make_model, cache):
    """The teacher is an ensemble, and one loss has no temperature."""
    x, y = data
    teachers = [make_model(seed=5), make_model(seed=6)]

    class LargestGap(metrics.DistillationMetric):
        def measure(self, teacher, student_logits):
            gap = keras.ops.abs(teacher - student_logits)
            return keras.ops.max(gap, axis=self.axis)

    logs = []
    for measured in (None, ["teacher_agreement", LargestGap(name="gap")]):
        distiller = compile_distiller(
            make_model(seed=1),
            teachers,
            distillation_loss=[
                losses.SoftTargetCrossentropy(4.0),
                losses.LogitMatching(),
            ],
            distillation_metrics=measured,
        )
        logs.append(
            distiller.fit(x, y, shuffle=False, verbose=0, cache=cache).history
        )
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-6)
    member_probabilities = [
        softmax(np.float64(model.predict(x, verbose=0)) / 4, axis=-1)
        for model in teachers
    ]
    v = 4 * np.log(np.mean(member_probabilities, axis=0))
    z = np.float64(make_model(seed=1).predict(x, verbose=0))
    np.testing.assert_allclose(
        logs[1]["gap"], np.mean(np.max(np.abs(v - z), axis=-1)), rtol=1e-5
    )

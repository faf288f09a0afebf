"""Every bad call gets an error that names what is wrong, before any harm."""

import importlib.metadata
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill
from keras_distill import Distiller
from keras_distill import TemperatureSoftmax
from keras_distill import losses
from markers import fast_compiler
from markers import several_steps

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = np.arange(12) % 3


def model(classes=3, features=4, **kwargs):
    return keras.Sequential(
        [keras.Input((features,)), keras.layers.Dense(classes, **kwargs)]
    )


def two_outputs(as_dict=False):
    inputs = keras.Input((4,))
    outputs = {
        "a": keras.layers.Dense(3, name="a")(inputs),
        "b": keras.layers.Dense(3, name="b")(inputs),
    }
    return keras.Model(inputs, outputs if as_dict else list(outputs.values()))


def distill(x=X, y=Y, *, student=None, teacher=None, **compile_with):
    """One short training, with what is given in place of what is right."""
    distiller = Distiller(
        student=student or model(),
        teacher=model() if teacher is None else teacher,
    )
    compile_with.setdefault("loss", SPARSE)
    distiller.compile(**{"optimizer": "sgd", **compile_with})
    distiller.fit(x, y, batch_size=4, verbose=0)


def without_teacher(y, *, soft_targets=None, **compile_with):
    distiller = Distiller(student=model())
    distiller.compile("sgd", **compile_with)
    distiller.fit(X, y, soft_targets=soft_targets, verbose=0)


def uncompiled():
    Distiller(student=model(), teacher=model()).fit(X, Y)


def set_alpha(value, loss=SPARSE):
    distiller = Distiller(student=model(), teacher=model())
    distiller.compile("sgd", loss=loss)
    distiller.alpha = value


def set_temperature(value):
    losses.SoftTargetCrossentropy().temperature = value


def set_temperature_of_logit_matching():
    losses.LogitMatching().temperature = 2.0


def train_on_more_classes():
    targets = keras_distill.top_k_targets(np.eye(12)[:, ::-1], k=2)
    without_teacher(None, soft_targets=targets)


def teach_with_itself():
    student = model()
    inner = keras_distill.Ensemble([student, model()])
    Distiller(student=student, teacher=keras_distill.Ensemble([inner, model()]))


def logits(shape):
    return np.zeros(shape, "float32")


def distill_dataset(parts):
    distiller = Distiller(student=model(), teacher=model())
    distiller.compile("sgd", loss=SPARSE)
    dataset = tf.data.Dataset.from_tensor_slices(parts).batch(4)
    distiller.fit(dataset, verbose=0)


def fit_with(loss, arguments):
    distiller = Distiller(student=model(), teacher=model())
    distiller.compile("sgd", loss=loss)
    distiller.fit(**{"x": X, "verbose": 0, **arguments})


def lower_alpha_on_unlabelled_data():
    distiller = Distiller(student=model(), teacher=model())
    distiller.compile("sgd", loss=SPARSE, alpha=1.0)
    distiller.fit(X, verbose=0)
    distiller.alpha = 0.5
    distiller.fit(X, verbose=0)


BAD_CALLS = {
    # Temperatures.
    "temperature_zero": (
        lambda: losses.SoftTargetCrossentropy(0),
        r"`temperature` to be a number between 0.001 and 10000.*temperature=0",
    ),
    "temperature_negative": (
        lambda: losses.SoftTargetKLDivergence(temperature=-2.0),
        r"between 0.001 and 10000.*Received: temperature=-2.0",
    ),
    "temperature_of_a_loss_without_one": (
        set_temperature_of_logit_matching,
        r"no setter",
    ),
    "temperature_nan": (
        lambda: losses.SoftTargetCrossentropy(float("nan")),
        r"`temperature`.*Received: temperature=nan",
    ),
    "temperature_infinite": (
        lambda: losses.SoftTargetCrossentropy(float("inf")),
        r"`temperature`.*Received: temperature=inf",
    ),
    "temperature_string": (
        lambda: losses.SoftTargetCrossentropy("4"),
        r"`temperature`.*Received: temperature='4'",
    ),
    "temperature_bool": (
        lambda: losses.SoftTargetCrossentropy(True),
        r"`temperature`.*Received: temperature=True",
    ),
    "temperature_list": (
        lambda: losses.SoftTargetCrossentropy([1.0, 2.0]),
        r"`temperature`.*Received: temperature=\[1.0, 2.0\]",
    ),
    "temperature_set_to_zero": (
        lambda: set_temperature(0.0),
        r"`temperature`.*Received: temperature=0.0",
    ),
    "layer_temperature": (
        lambda: TemperatureSoftmax(temperature=-1),
        r"`temperature`.*Received: temperature=-1",
    ),
    "layer_serving_temperature": (
        lambda: TemperatureSoftmax(serving_temperature=None),
        r"`serving_temperature`.*Received: serving_temperature=None",
    ),
    # Other arguments of the losses.
    "from_logits_string": (
        lambda: losses.LogitMatching(from_logits="no"),
        r"`from_logits` to be True or False.*from_logits='no'",
    ),
    "teacher_from_logits_number": (
        lambda: losses.SoftTargetCrossentropy(teacher_from_logits=1),
        r"`teacher_from_logits` to be True or False.*teacher_from_logits=1",
    ),
    "axis_float": (
        lambda: losses.LogitMatching(axis=1.5),
        r"`axis` to be an integer.*axis=1.5",
    ),
    "axis_that_does_not_exist": (
        lambda: losses.LogitMatching(axis=2)(logits((2, 3)), logits((2, 3))),
        r"axis=2, and outputs of shape \(2, 3\)",
    ),
    "reduction": (
        lambda: losses.LogitMatching(reduction="median"),
        r"`reduction`.*reduction=median",
    ),
    "loss_on_labels": (
        lambda: losses.SoftTargetCrossentropy()(Y, logits((12, 3))),
        r"floating point logits.*dtype=int(32|64). Are these labels",
    ),
    "loss_on_other_class_count": (
        lambda: losses.SoftTargetKLDivergence()(logits((2, 4)), logits((2, 3))),
        r"same number of classes.*\(2, 4\) and \(2, 3\)",
    ),
    "abstract_loss": (
        lambda: losses.DistillationLoss()(logits((2, 3)), logits((2, 3))),
        r"has to implement `compare",
    ),
    "top_k_of_more_classes": (
        train_on_more_classes,
        r"different number of classes than the student",
    ),
    # The models.
    "student_in_an_ensemble_within_the_teacher": (
        teach_with_itself,
        r"to be two models",
    ),
    "swapped_positional_arguments": (
        lambda: Distiller(model(), model()),
        r"Distiller\(student=\.\.\., teacher=\.\.\.\).*2 positional argument",
    ),
    "no_student": (
        lambda: Distiller(teacher=model()),
        r"`student` to be a `keras.Model`. Received: student=None",
    ),
    "student_is_no_model": (
        lambda: Distiller(student=keras.layers.Dense(3)),
        r"`student` to be a `keras.Model`.*Received: student=<Dense",
    ),
    "student_is_a_class": (
        lambda: Distiller(student=keras.Sequential),
        r"`student` to be a `keras.Model`",
    ),
    "teacher_is_no_model": (
        lambda: Distiller(student=model(), teacher=X),
        r"`teacher` to be a `keras.Model`, a callable",
    ),
    "teacher_is_a_class": (
        lambda: Distiller(student=model(), teacher=keras.Sequential),
        r"`teacher` to be a `keras.Model`, a callable",
    ),
    "teacher_is_a_path": (
        lambda: Distiller(student=model(), teacher="teacher.keras"),
        r"`teacher` to be a `keras.Model`.*teacher='teacher.keras'",
    ),
    "empty_list_of_teachers": (
        lambda: Distiller(student=model(), teacher=[]),
        r"`teacher` to be a list of at least one model.*teacher=\[\]",
    ),
    "student_is_the_teacher": (
        lambda: (lambda m: Distiller(student=m, teacher=m))(model()),
        r"`student` and `teacher` to be two models",
    ),
    "other_class_count": (
        lambda: Distiller(student=model(3), teacher=model(4)),
        r"teacher and student.*number of classes.*\(None, 4\).*\(None, 3\)",
    ),
    "other_class_count_in_a_list": (
        lambda: Distiller(student=model(3), teacher=[model(3), model(4)]),
        r"members to have the same shapes.*\(None, 3\).*\(None, 4\)",
    ),
    "other_class_count_of_a_callable": (
        lambda: distill(teacher=lambda x: keras.ops.zeros((4, 7))),
        r"same number of classes.*\(4, 7\)",
    ),
    "other_number_of_outputs": (
        lambda: Distiller(student=model(), teacher=two_outputs()),
        r"teacher and student.*\[.*, .*\(None, 3\)\] and \[\(None, 3\)\]",
    ),
    "outputs_of_other_structure": (
        lambda: distill(
            student=two_outputs(), teacher=two_outputs(True), loss=None
        ),
        r"`soft_targets` to have the structure of the outputs",
    ),
    "wrong_rank": (
        lambda: distill(teacher=lambda x: keras.ops.zeros((4, 3, 1))),
        r"same rank",
    ),
    "integer_teacher_outputs": (
        lambda: distill(teacher=lambda x: keras.ops.zeros((4, 3), "int32")),
        r"floating point logits.*dtype=int32. Are these labels or class",
    ),
    # compile.
    "alpha_above_one": (
        lambda: distill(alpha=1.5),
        r"`alpha` to be a number between 0 and 1.*Received: alpha=1.5",
    ),
    "alpha_negative": (
        lambda: distill(alpha=-0.1),
        r"`alpha` to be a number between 0 and 1.*alpha=-0.1",
    ),
    "alpha_nan": (lambda: distill(alpha=np.nan), r"`alpha`.*alpha=nan"),
    "alpha_string": (lambda: distill(alpha="0.5"), r"`alpha`.*alpha='0.5'"),
    "alpha_without_hard_loss": (
        lambda: distill(loss=None, alpha=0.5),
        r"Without a hard loss.*`alpha` has to be 1. Received: alpha=0.5",
    ),
    "alpha_without_hard_loss_at_its_default": (
        lambda: distill(loss=None, alpha=0.9),
        r"Without a hard loss.*`alpha` has to be 1. Received: alpha=0.9",
    ),
    "reserved_name_of_a_loss": (
        lambda: distill(
            distillation_loss=[
                losses.SoftTargetCrossentropy(name="loss"),
                losses.LogitMatching(),
            ]
        ),
        r"different names.*reserved: \['loss'\]",
    ),
    "from_logits_of_an_ensemble": (
        lambda: keras_distill.Ensemble([model()], from_logits="logits"),
        r"`from_logits` to be True or False",
    ),
    "axis_of_a_metric": (
        lambda: keras_distill.metrics.TeacherAgreement(axis="last"),
        r"`axis` to be an integer.*axis='last'",
    ),
    "alpha_set_outside": (lambda: set_alpha(2), r"`alpha`.*alpha=2"),
    "alpha_set_without_hard_loss": (
        lambda: set_alpha(0.5, loss=None),
        r"Without a hard loss.*alpha=0.5",
    ),
    "unknown_distillation_loss": (
        lambda: distill(distillation_loss="soft_target_crossentropie"),
        r"Did you mean 'soft_target_crossentropy'\?",
    ),
    "hopeless_distillation_loss": (
        lambda: distill(distillation_loss="xyz"),
        r"Expected one of.*logit_matching.*Received.*'xyz'",
    ),
    "keras_loss_as_distillation_loss": (
        lambda: distill(distillation_loss=keras.losses.KLDivergence()),
        r"`keras_distill.losses.DistillationLoss`.*LogitMatching\(\)",
    ),
    "distillation_loss_class": (
        lambda: distill(distillation_loss=losses.LogitMatching),
        r"an instance: `LogitMatching\(\)`",
    ),
    "function_as_distillation_loss": (
        lambda: distill(distillation_loss=lambda v, z: v - z),
        r"`distillation_loss` to be a `keras_distill.losses.Dist",
    ),
    "no_distillation_loss": (
        lambda: distill(distillation_loss=None),
        r"at least one loss in `distillation_loss`.*distillation_loss=None",
    ),
    "only_none_as_distillation_loss": (
        lambda: distill(distillation_loss=[None]),
        r"at least one loss in `distillation_loss`",
    ),
    "too_few_weights": (
        lambda: distill(
            distillation_loss=["logit_matching", "soft_target_crossentropy"],
            distillation_loss_weights=[1.0],
        ),
        r"structure of `distillation_loss`, 2 number.*weights=\[1.0\]",
    ),
    "weights_for_one_loss": (
        lambda: distill(distillation_loss_weights=[1.0, 2.0]),
        r"structure of `distillation_loss`, 1 number",
    ),
    "negative_weight": (
        lambda: distill(distillation_loss_weights=-1.0),
        r"`distillation_loss_weights` to be a finite number.*=-1.0",
    ),
    "weight_string": (
        lambda: distill(distillation_loss_weights="much"),
        r"`distillation_loss_weights` to be a finite number.*='much'",
    ),
    "losses_for_other_outputs": (
        lambda: distill(
            student=two_outputs(),
            teacher=two_outputs(),
            distillation_loss=["logit_matching"] * 3,
        ),
        r"2 outputs, so `distillation_loss` as a list needs 2.*Received: 3",
    ),
    "losses_for_unknown_outputs": (
        lambda: distill(
            student=two_outputs(),
            teacher=two_outputs(),
            distillation_loss={"a": "logit_matching", "c": "logit_matching"},
        ),
        r"names of the student's outputs, \['a', 'b'\]. Received: \['c'\]",
    ),
    "list_of_teachers_at_two_temperatures": (
        lambda: distill(
            teacher=[model(), model()],
            distillation_loss=[
                losses.SoftTargetCrossentropy(2.0),
                losses.SoftTargetCrossentropy(4.0),
            ],
        ),
        r"all distillation losses of an output need the same `temperature`",
    ),
    "unknown_optimizer": (
        lambda: distill(optimizer="adamm"),
        r"optimizer.*adamm",
    ),
    "unknown_metric": (
        lambda: distill(metrics=["acuracy"]),
        r"acuracy",
    ),
    # fit.
    "uncompiled_fit": (uncompiled, r"You must call `compile\(\)` before"),
    "no_teacher": (
        lambda: without_teacher(Y, loss=SPARSE),
        r"no soft targets: pass a `teacher`.*teacher=None",
    ),
    "no_teacher_and_no_targets": (
        lambda: without_teacher(None),
        r"no soft targets: pass a `teacher`.*teacher=None",
    ),
    "soft_targets_are_labels": (
        lambda: without_teacher(None, soft_targets=Y),
        r"floating point logits.*dtype=int(32|64). Are these labels or class",
    ),
    "no_labels": (
        lambda: distill(y=None),
        r"`alpha < 1` gives the labels a weight, but the data has no labels",
    ),
    "no_labels_in_a_dataset": (
        lambda: distill_dataset(X),
        r"the data has no labels",
    ),
    "label_too_large": (
        lambda: distill(y=Y + 1),
        r"from 0 to 2. The student has 3 classes.*a label of 3",
    ),
    "label_of_minus_one": (
        lambda: distill(y=Y - 1),
        r"use a loss with `ignore_class=-1`. Received: a label of -1",
    ),
    "class_weight_and_sample_weight": (
        lambda: fit_with(
            SPARSE,
            {"y": Y, "class_weight": {0: 2.0}, "sample_weight": np.ones(12)},
        ),
        r"class_weight.*sample_weight",
    ),
    "soft_targets_in_y": (
        lambda: without_teacher(
            {"labels": Y, "soft_targets": logits((12, 3))}, loss=SPARSE
        ),
        r"`fit\(x, y, soft_targets=logits\)`.*\['labels', 'soft_targets'\]",
    ),
    "soft_targets_in_the_y_of_a_dataset": (
        lambda: distill_dataset((X, {"soft_targets": logits((12, 3))})),
        r"`\(keras_distill.WithSoftTargets\(x, logits\), y\)` in a dataset",
    ),
    "soft_targets_twice": (
        lambda: fit_with(
            None,
            {
                "x": keras_distill.WithSoftTargets(X, logits((12, 3))),
                "soft_targets": logits((12, 3)),
            },
        ),
        r"soft targets once.*WithSoftTargets",
    ),
    "soft_targets_beside_a_dataset": (
        lambda: fit_with(
            None,
            {
                "x": tf.data.Dataset.from_tensor_slices(X).batch(4),
                "soft_targets": logits((12, 3)),
            },
        ),
        r"`soft_targets` needs arrays.*elements are",
    ),
    "one_class": (
        lambda: distill(student=model(1), teacher=model(1), loss=None, y=None),
        r"at least two classes.*use two logits \(0, z\).*\(4, 1\)",
    ),
    "validation_label_too_large": (
        lambda: fit_with(SPARSE, {"y": Y, "validation_data": (X, Y + 1)}),
        r"class ids from 0 to 2.*a label of 3",
    ),
    "nothing_to_evaluate": (
        lambda: fit_with(None, {"y": Y, "validation_data": (X, Y)}),
        r"There is nothing to evaluate: pass a `loss`, `metrics` or",
    ),
    "nothing_to_evaluate_in_a_split": (
        lambda: fit_with(None, {"y": Y, "validation_split": 0.25}),
        r"There is nothing to evaluate: pass a `loss`, `metrics` or",
    ),
    "a_split_without_labels": (
        lambda: fit_with(None, {"validation_split": 0.25}),
        r"Expected `validation_data` with labels.*inputs only",
    ),
    "loss_of_each_sample": (
        lambda: distill(
            distillation_loss=losses.SoftTargetCrossentropy(reduction=None)
        ),
        r"single number.*SoftTargetCrossentropy with reduction=None",
    ),
    "alpha_lowered_on_unlabelled_data": (
        lambda: lower_alpha_on_unlabelled_data(),
        r"`alpha < 1` gives the labels a weight, but the data has no labels",
    ),
    "alpha_before_compile": (
        lambda: Distiller(student=model()).alpha,
        r"You must call `compile\(\)` before",
    ),
    "exchanged_student": (
        lambda: setattr(Distiller(student=model()), "student", model()),
        r"student of a `Distiller` cannot be replaced",
    ),
    "integer_outputs_in_a_list": (
        lambda: distill(teacher=[lambda x: keras.ops.zeros((4, 3), "int32")]),
        r"floating point outputs of each member.*of member 0",
    ),
    # Export.
    "export_unbuilt": (
        lambda: Distiller(
            student=keras.Sequential([keras.layers.Dense(3)])
        ).export("x"),
        r"The student is not built",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call(name):
    call, message = BAD_CALLS[name]
    with pytest.raises(
        (ValueError, TypeError, NotImplementedError, AttributeError)
    ) as caught:
        call()
    text = " ".join(str(caught.value).split())
    assert re.search(message, text), text


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("bad", "options"),
    [
        (np.nan, {}),
        (np.inf, {"run_eagerly": True}),
        pytest.param(-np.inf, {"steps_per_execution": 3}, marks=several_steps),
        pytest.param(np.nan, {"jit_compile": True}, marks=fast_compiler),
    ],
    ids=str,
)
def test_soft_targets_that_are_not_finite(bad, options):
    """Named by batch; such a sample has no weight."""
    student, teacher = model(), model()
    targets = teacher.predict(X, verbose=0)
    targets[6, 1] = bad  # In the second batch of four.

    def compiled():
        distiller = Distiller(student=keras.models.clone_model(student))
        distiller.student.set_weights(student.get_weights())
        distiller.compile("adam", **options)
        return distiller, {"batch_size": 4, "shuffle": False, "verbose": 0}

    distiller, arguments = compiled()
    with pytest.raises(ValueError, match="not finite in batch 2 of this"):
        distiller.fit(X, soft_targets=targets, **arguments)
    # It stops after this batch on a CPU, if a step is one batch.
    batches = 3 if "steps_per_execution" in options else 2
    weighted, arguments = compiled()
    weights = np.ones(4 * batches)
    weights[6] = 0.0
    targets[6] = 0.0
    rows = slice(4 * batches)
    weighted.fit(
        X[rows],
        soft_targets=targets[rows],
        sample_weight=weights,
        **arguments,
    )
    for ours, theirs in zip(
        distiller.student.get_weights(),
        weighted.student.get_weights(),
        strict=True,
    ):
        assert np.isfinite(ours).all()
        if keras.backend.backend() != "jax":
            # JAX may begin the next step before the report is there.
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("run_eagerly", "activation"), [(False, None), (True, "softmax")]
)
def test_not_finite_inputs_do_not_reach_batch_normalisation(
    run_eagerly, activation
):
    """No weight becomes NaN, moving statistics included."""
    inputs = keras.Input((4,))
    hidden = keras.layers.BatchNormalization()(inputs)
    student = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    distiller = Distiller(student=student, teacher=model(activation=activation))
    distiller.compile("adam", run_eagerly=run_eagerly)
    x = X.copy()
    x[2, 0] = np.nan
    with pytest.raises(ValueError, match="not finite in batch 1"):
        distiller.fit(x, batch_size=4, shuffle=False, verbose=0, cache=False)
    for weight in student.get_weights():
        assert np.isfinite(weight).all()


@pytest.mark.compiled
def test_failed_epoch_does_not_call_on_epoch_end():
    """Also if the bad batch is the last batch of the epoch."""
    x = np.concatenate([X] * 3)
    x[-1, 0] = np.nan
    begun, ended = [], []
    distiller = Distiller(student=model(), teacher=model())
    distiller.compile("adam")
    with pytest.raises(ValueError, match="not finite in batch 9 of this"):
        distiller.fit(
            x,
            batch_size=4,
            epochs=3,
            shuffle=False,
            verbose=0,
            cache=False,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: begun.append(epoch),
                    on_epoch_end=lambda epoch, logs: ended.append(epoch),
                )
            ],
        )
    assert (begun, ended) == ([0], [])


@pytest.mark.compiled
def test_a_teacher_that_overflows(make_model):
    """The logits behind a softmax are what is looked at."""
    teacher = model(activation="softmax")
    kernel, bias = teacher.get_weights()
    teacher.set_weights([np.full_like(kernel, np.inf), bias])
    distiller = Distiller(student=model(), teacher=teacher)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="not finite in batch 1"):
        distiller.fit(X, verbose=0, cache=False)
    for weight in distiller.student.get_weights():
        assert np.isfinite(weight).all()


def test_other_failures_are_passed_on():
    def teacher(x):
        with tf.control_dependencies([tf.debugging.Assert(False, ["mine"])]):
            return tf.zeros((4, 3))

    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"):
        distill(teacher=teacher)


def test_version():
    version = importlib.metadata.version("keras-distill")
    assert keras_distill.__version__ == version


def store_like():
    class Store:
        attach = info = None

    return Store()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d, x, y: d.compile(
                metrics=[keras_distill.metrics.TeacherAgreement()]
            ),
            "as `distillation_metrics`",
        ),
        (
            lambda d, x, y: d.compile(loss=losses.SoftTargetCrossentropy()),
            "as `distillation_loss`",
        ),
        (
            lambda d, x, y: d.compile(
                distillation_loss=losses.SoftTargetCrossentropy
            ),
            r"an instance: `SoftTargetCrossentropy\(\)`",
        ),
        (lambda d, x, y: d.fit(store_like()), r"store\.attach"),
        (lambda d, x, y: d.fit(x, soft_targets=store_like()), "attach"),
        (lambda d, x, y: d.fit(x[:0], y[:0]), "at least one example"),
        (
            lambda d, x, y: keras_distill.suggest_temperature(
                lambda x: x[:, :1], x
            ),
            r"two or more classes.*shape \(\d+, 1\)",
        ),
        (
            lambda d, x, y: keras_distill.suggest_temperature(
                d.teacher, x * np.nan
            ),
            "are not finite",
        ),
        (lambda d, x, y: d.fit(x, y, validation_data=x), "inputs only"),
        (lambda d, x, y: d.fit(x, y, validation_data=(x,)), "inputs only"),
        (lambda d, x, y: d.fit(x, y + 0.5), "to be class ids"),
        (lambda d, x, y: d.fit(x, y.astype(str)), "to be class ids"),
        (
            lambda d, x, y: keras_distill.Distiller(
                student=d.student, teacher=d.teacher.predict
            ),
            "the model itself",
        ),
        (
            lambda d, x, y: keras_distill.SoftTargetStore.create(
                d.teacher, (x, y), "path"
            ),
            "come after it",
        ),
        (
            lambda d, x, y: keras_distill.predict_logits(x, d.student),
            "followed by the inputs",
        ),
    ],
)
def test_arguments_in_the_wrong_place(data, make_model, call, message):
    distiller = keras_distill.Distiller(
        student=make_model(), teacher=make_model(seed=5)
    )
    distiller.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = distiller.student.get_weights()
    with pytest.raises(ValueError, match=message):
        call(distiller, *data)
    for now, then in zip(distiller.student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_setting_temperature_on_distiller_raises(make_model):
    distiller = keras_distill.Distiller(student=make_model())
    with pytest.raises(AttributeError, match=r"distillation_loss\.temperature"):
        distiller.temperature = 2.0


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalCrossentropy(),
    ],
    ids=["name", "sparse", "one-hot"],
)
def test_logits_that_are_taken_for_probabilities(make_model, loss, recwarn):
    distiller = keras_distill.Distiller(student=make_model())
    with pytest.warns(UserWarning, match="without an activation"):
        distiller.compile(loss=loss)
    nested = keras.Sequential([keras.Input((6,)), make_model()])
    with pytest.warns(UserWarning, match="without an activation"):
        keras_distill.Distiller(student=nested).compile(loss=loss)
    recwarn.clear()
    softmax = keras_distill.Distiller(student=make_model("softmax"))
    softmax.compile(loss=loss)
    distiller.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    assert not [w for w in recwarn if "activation" in str(w.message)]


@pytest.mark.parametrize(
    ("validation", "regularizer"),
    [
        ({"validation_data": (X, Y)}, "l2"),
        ({"validation_split": 0.25}, None),
    ],
)
def test_a_validation_of_nothing_is_refused_first(validation, regularizer):
    """A penalty of the weights alone would be a `val_loss` to stop by."""
    student = model(kernel_regularizer=regularizer)
    before = student.get_weights()
    distiller = Distiller(student=student, teacher=model())
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="There is nothing to evaluate"):
        distiller.fit(X, Y, verbose=0, **validation)
    for ours, theirs in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # But soft targets are something.
    validation_data = keras_distill.WithSoftTargets(X, logits((12, 3)))
    history = distiller.fit(
        X, Y, validation_data=validation_data, verbose=0
    ).history
    assert "val_soft_loss" in history


@pytest.mark.compiled
@pytest.mark.parametrize("several", [False, True])
def test_training_continues_after_an_error(several):
    """In `fit` and in `train_on_batch`, for one teacher and for several."""
    teacher = [model(), model()] if several else model()
    distiller = Distiller(student=model(), teacher=teacher)
    distiller.compile("adam")
    bad = X.copy()
    bad[2, 0] = np.nan
    arguments = {
        "batch_size": 4,
        "shuffle": False,
        "verbose": 0,
        "cache": False,
    }
    for _ in range(2):
        with pytest.raises(ValueError, match="not finite in batch 1"):
            distiller.fit(bad, **arguments)
        distiller.train_on_batch(X)
        with pytest.raises(ValueError, match="not finite"):
            distiller.train_on_batch(bad)
        distiller.train_on_batch(X)
        distiller.fit(X, **arguments)

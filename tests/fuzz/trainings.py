"""Random trainings, each compared with a loop that is written by hand."""

import typing

import keras
import numpy as np
import tensorflow as tf

import keras_distill
from fuzz import hand_written_loop
from fuzz import small_models

LOSSES = {
    "crossentropy": keras_distill.losses.SoftTargetCrossentropy,
    "kl_divergence": keras_distill.losses.SoftTargetKLDivergence,
    "logit_matching": keras_distill.losses.LogitMatching,
}


class Case(typing.NamedTuple):
    """A pair of models, and the arguments of `compile` and `fit`."""

    student: small_models.Architecture
    teacher: small_models.Architecture
    teachers: int
    optimizer: dict
    # For each output, the losses and their weights.
    terms: list
    weighted_terms: bool
    temperature: float
    alpha: float
    has_hard_loss: bool
    hard_weights: list | None
    # How the step runs, and how the data gets there.
    how: dict
    feed: str
    cache: typing.Any
    weights: str | None
    examples: int
    batch_size: int
    epochs: int
    validation: bool
    # Whether alpha and the temperature change after each epoch.
    scheduled: bool


def draw_case(rng) -> Case:
    """Returns a case that `keras_distill` accepts."""

    def choose(*options):
        return options[rng.integers(len(options))]

    kind = choose(*small_models.KINDS)
    positions = kind in ("convolutional", "recurrent", "tokens") and choose(
        True, False
    )
    masked = kind == "tokens" and positions
    classes = tuple(int(n) for n in rng.integers(2, 6, choose(1, 1, 2)))
    student, teacher = (
        small_models.draw_architecture(
            rng,
            kind,
            classes,
            positions,
            # A `Softmax` layer takes the mask of a sequence for another one.
            choose(None, "activation", "activation" if masked else "layer"),
        )
        for _ in range(2)
    )
    teachers = choose(1, 1, 2)
    kinds = ["crossentropy", "kl_divergence"]
    if teachers == 1:
        kinds.append("logit_matching")
    weighted_terms = choose(True, False)
    shared = choose(*kinds)
    terms = [
        [
            (choose(*kinds), float(choose(0.5, 1.0, 2.0)))
            for _ in range(choose(1, 1, 2))
        ]
        if weighted_terms
        else [(shared, 1.0)]
        for _ in classes
    ]
    has_hard_loss = choose(True, True, False)
    feed = choose("arrays", "soft_targets", "dataset", "labelled", "generator")
    weights = choose(None, None, "sample_weight", "class_weight")
    if weights == "class_weight" and (
        positions or len(classes) > 1 or feed == "generator"
    ):
        # Keras refuses these.
        weights = "sample_weight"
    optimizer = dict(choose(*_OPTIMIZERS))
    optimizer["config"] = {
        **optimizer["config"],
        **choose({}, {}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}),
        **choose({}, {}, {"gradient_accumulation_steps": 2}),
    }
    if feed in ("soft_targets", "labelled"):
        # The mean of an ensemble holds at no other temperature.
        teachers = 1
    cache = choose("auto", True, False) if feed == "arrays" else "auto"
    how = choose(
        {"run_eagerly": True},
        {"run_eagerly": True},
        {},
        {"steps_per_execution": 2},
        {"jit_compile": True},
    )
    if "jit_compile" in how:
        # XLA draws other random numbers.
        student = student._replace(dropout=0.0)
    if "steps_per_execution" in how and feed == "generator":
        # Keras would take more steps than an epoch has.
        feed = "dataset"
    return Case(
        student=student,
        teacher=teacher,
        teachers=teachers,
        optimizer=optimizer,
        terms=terms,
        weighted_terms=weighted_terms,
        temperature=float(choose(1.0, 2.0, 4.0, 9.5)),
        alpha=float(choose(0.0, 0.3, 0.9, 1.0)) if has_hard_loss else 1.0,
        has_hard_loss=has_hard_loss,
        hard_weights=[float(w) for w in rng.uniform(0.5, 2, len(classes))]
        if len(classes) > 1 and has_hard_loss and choose(True, False)
        else None,
        how=how,
        feed=feed,
        cache=cache,
        weights=weights,
        examples=int(rng.integers(9, 30)),
        batch_size=int(rng.integers(3, 9)),
        epochs=int(rng.integers(1, 4)),
        # Without a hard loss, validation needs soft targets of its own.
        validation=choose(True, False)
        and (has_hard_loss or feed in ("soft_targets", "labelled")),
        scheduled=choose(True, False) and (teachers == 1 or cache is False),
    )


# A large epsilon, because a small one makes steps out of rounding errors.
_OPTIMIZERS = (
    {"class_name": "SGD", "config": {"learning_rate": 0.1}},
    {
        "class_name": "SGD",
        "config": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    },
    {"class_name": "Adam", "config": {"learning_rate": 0.02, "epsilon": 0.01}},
    {
        "class_name": "AdamW",
        "config": {"learning_rate": 0.02, "epsilon": 0.01},
    },
    {
        "class_name": "RMSprop",
        "config": {"learning_rate": 0.01, "epsilon": 0.01},
    },
)


class Data(typing.NamedTuple):
    """Arrays of one data set, with the teachers' logits."""

    x: typing.Any
    # One array for each output.
    y: list
    weight: typing.Any
    # The logits of each teacher, for each output.
    logits: list

    def batches(self, size):
        """Yields inputs, labels, logits and weights, as the loop takes them."""
        for start in range(0, len(self.y[0]), size):
            part = slice(start, start + size)

            def take(structure, part=part):
                return keras.tree.map_structure(
                    lambda array: None if array is None else array[part],
                    structure,
                )

            yield tuple(map(take, (self.x, self.y, self.logits, self.weight)))


def run(seed: int) -> str:
    """Trains both ways, and raises an `AssertionError` if they differ."""
    rng = np.random.default_rng(seed)
    case = draw_case(rng)
    teachers = [
        small_models.build(case.teacher, seed=seed + 1000 + number)
        for number in range(case.teachers)
    ]
    by_logits = [
        small_models.build(
            case.teacher._replace(softmax=None), seed=seed + 1000 + number
        )
        for number in range(case.teachers)
    ]
    class_weight = {
        label: float(weight)
        for label, weight in enumerate(rng.uniform(0, 2, 6))
        if label < case.student.classes[0]
    }

    def draw_data(examples):
        x = small_models.draw_inputs(rng, case.student, examples)
        logits = [
            [
                np.asarray(output)
                for output in keras.tree.flatten(model(x, training=False))
            ]
            for model in by_logits
        ]
        y = [
            rng.integers(0, classes, array.shape[:-1])
            for classes, array in zip(
                case.student.classes, logits[0], strict=True
            )
        ]
        weight = None
        if case.weights == "sample_weight":
            # Keras multiplies it with a mask of positions.
            shape = (examples, 1) if logits[0][0].ndim > 2 else (examples,)
            weight = rng.uniform(0, 2, shape).astype("float32")
        elif case.weights == "class_weight":
            weight = np.array([class_weight[label] for label in y[0]])
        return Data(x, y, weight, logits)

    train, valid = draw_data(case.examples), draw_data(11)
    student = small_models.build(case.student, seed=seed)
    theirs = small_models.build(case.student._replace(softmax=None), seed=seed)
    history = _fit(case, student, teachers, train, valid, class_weight)
    expected = _fit_by_hand(case, theirs, train, valid)
    for name, values in expected.items():
        np.testing.assert_allclose(
            history[name],
            values,
            rtol=2e-4,
            atol=2e-5,
            err_msg=f"{name} of {case}",
        )
    for ours, other in zip(student.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(
            np.asarray(ours),
            np.asarray(other),
            rtol=1e-3,
            atol=2e-4,
            err_msg=f"{ours.path} of {case}",
        )
    return f"{case.student.kind}: equal"


def _schedule(case, epoch):
    """Returns alpha and the temperature of an epoch."""
    if not case.scheduled:
        return case.alpha, case.temperature
    alpha = case.alpha / (epoch + 1) if case.has_hard_loss else 1.0
    return alpha, case.temperature * (epoch + 1)


def _fit(case, student, teachers, train, valid, class_weight):
    """Trains with `keras_distill`, and returns the history."""
    names = [f"out{number}" for number in range(len(case.student.classes))]
    several = len(names) > 1
    softmax = case.student.softmax is not None

    def make_loss(kind):
        if kind == "logit_matching":
            return LOSSES[kind]()
        return LOSSES[kind](case.temperature)

    def by_name(values):
        return dict(zip(names, values, strict=True)) if several else values[0]

    losses, weights = make_loss(case.terms[0][0][0]), None
    if case.weighted_terms:
        losses = by_name([[make_loss(k) for k, _ in t] for t in case.terms])
        weights = by_name([[w for _, w in t] for t in case.terms])
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax)
    needs_teacher = case.feed not in ("soft_targets", "labelled")
    distiller = keras_distill.Distiller(
        student=student,
        teacher=(teachers if len(teachers) > 1 else teachers[0])
        if needs_teacher
        else None,
    )
    distiller.compile(
        optimizer=keras.optimizers.get(case.optimizer),
        loss=by_name([hard] * len(names)) if case.has_hard_loss else None,
        loss_weights=case.hard_weights and by_name(case.hard_weights),
        distillation_loss=losses,
        distillation_loss_weights=weights,
        alpha=case.alpha if case.has_hard_loss else None,
        **case.how,
    )

    def element(data):
        x, y = data.x, by_name(data.y)
        if not needs_teacher:
            x = keras_distill.WithSoftTargets(x, by_name(data.logits[0]))
        if case.weights == "sample_weight":
            return x, y, data.weight
        return x, y

    def change(epoch, logs=None):
        alpha, temperature = _schedule(case, epoch)
        if case.has_hard_loss:
            distiller.alpha = alpha
        for loss in keras.tree.flatten(losses):
            if loss.temperature is not None:
                loss.temperature = temperature

    options = {
        "epochs": case.epochs,
        "verbose": 0,
        "validation_data": element(valid) if case.validation else None,
        "validation_batch_size": 4 if case.validation else None,
        "callbacks": [keras.callbacks.LambdaCallback(on_epoch_begin=change)],
    }
    if case.weights == "class_weight":
        options["class_weight"] = class_weight
    if case.feed in ("arrays", "soft_targets"):
        x, y, *rest = element(train)
        if case.feed == "soft_targets":
            options["soft_targets"], x = x.soft_targets, x.inputs
        return distiller.fit(
            x,
            y,
            sample_weight=rest[0] if rest else None,
            batch_size=case.batch_size,
            shuffle=False,
            cache=case.cache,
            **options,
        ).history
    dataset = tf.data.Dataset.from_tensor_slices(element(train))
    dataset = dataset.batch(case.batch_size)
    if case.feed == "generator":
        steps = int(dataset.cardinality())
        return distiller.fit(
            _repeat(dataset), steps_per_epoch=steps, **options
        ).history
    return distiller.fit(dataset, **options).history


def _repeat(dataset):
    """Yields the batches as arrays, again and again."""
    while True:
        yield from dataset.as_numpy_iterator()


def _fit_by_hand(case, student, train, valid):
    """Trains with the other loop, and returns what the history has to have."""
    softmax = case.student.softmax is not None
    trainer = hand_written_loop.Trainer(
        student=student,
        has_softmax=softmax,
        optimizer=keras.optimizers.get(case.optimizer),
        hard_loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=not softmax
        )
        if case.has_hard_loss
        else None,
        hard_weights=case.hard_weights or [1.0] * len(case.student.classes),
        terms=case.terms,
    )
    if case.weights == "class_weight":
        # Keras does not weigh the classes of a validation.
        valid = valid._replace(weight=None)
    has_soft_targets = case.feed in ("soft_targets", "labelled")
    history: dict = {}
    for epoch in range(case.epochs):
        parameters = _schedule(case, epoch)
        means = {"": trainer.fit(train.batches(case.batch_size), *parameters)}
        if case.validation:
            # Without soft targets, a validation is that of the hard loss.
            alpha = parameters[0] if has_soft_targets else 0.0
            means["val_"] = trainer.evaluate(
                valid.batches(4), alpha, parameters[1]
            )
        for prefix, (loss, soft, hard) in means.items():
            history.setdefault(f"{prefix}loss", []).append(loss)
            if not prefix or has_soft_targets:
                history.setdefault(f"{prefix}soft_loss", []).append(soft)
            if case.has_hard_loss:
                history.setdefault(f"{prefix}hard_loss", []).append(hard)
    return history

"""The three questions after distilling, answered in one table."""

import math
import typing
import warnings

import keras
import numpy as np
from keras import ops

from keras_distill import cost
from keras_distill.data.batches import to_batches
from keras_distill.forward import serves_softer
from keras_distill.inference import compile_logits
from keras_distill.inference import show_progress
from keras_distill.metrics import ExpectedCalibrationError
from keras_distill.metrics import TeacherAgreement
from keras_distill.metrics import TeacherKLDivergence
from keras_distill.metrics.labels import to_class_ids
from keras_distill.tables import format_count
from keras_distill.tables import format_markdown
from keras_distill.tables import format_table
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.temperature import check_temperature
from keras_distill.validation import check_integer
from keras_distill.validation import look_like_probabilities

# Of all intervals.
_CONFIDENCE_LEVEL = 0.95


class ModelReport(typing.NamedTuple):
    """What `compare` found out about one model.

    Args:
        parameters: Number of weights, or `None` of what is no Keras model.
        bytes: Size of the weights in memory, or `None`.
        multiply_adds: For one example, or `None` where loops hide it.
        errors: Number of examples whose most likely class is not the label,
            and of those with a NaN, which have none.
        accuracy: Share of the others.
        accuracy_interval: Ends of the 95 % confidence interval of the accuracy
            (Wilson, 1927).
        teacher_agreement: Share of examples with the teacher's most likely
            class, or `None` of the teacher itself.
        teacher_kl_divergence: Mean divergence from the teacher's
            probabilities in nats, or `None`.
        expected_calibration_error: As the metric of that name.
        latency: Dict from batch sizes to median milliseconds.
    """

    parameters: int | None
    bytes: int | None
    multiply_adds: int | None
    errors: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    teacher_agreement: float | None
    teacher_kl_divergence: float | None
    expected_calibration_error: float
    latency: dict[int, float]


class McNemarTest(typing.NamedTuple):
    """Whether one model is really better than another.

    Args:
        only_first: Number of examples that only the first model gets right.
        only_second: Number of examples that only the second gets right.
        p_value: The probability of a difference at least as large if the two
            were equally good: exact and two-sided (McNemar, 1947).
    """

    only_first: int
    only_second: int
    p_value: float


class Comparison:
    """What `compare` returns: prints as a table, and draws itself.

    Args:
        models: Dict from the name of each model to its `ModelReport`.
        correct: Dict from the name of each model to a boolean array: which
            examples it gets right.
        teacher: Name of the teacher, or `None`.
    """

    def __init__(self, models, correct, teacher):
        self.models = models
        self.teacher = teacher
        self._correct = correct

    @property
    def examples(self):
        """The number of examples."""
        return len(next(iter(self._correct.values())))

    def mcnemar(self, first, second):
        """Tests whether one model is really better than another.

        Two models that were tested on the same examples differ in those that
        one gets right and the other wrong. If they are equally good, either
        way is as likely (McNemar, 1947, "Note on the sampling error of the
        difference between correlated proportions or percentages").

        Example:

        ```python
        report = keras_distill.compare(
            {"from labels": first, "distilled": second}, (x_test, y_test)
        )
        print(report.mcnemar("distilled", "from labels").p_value)
        ```

        Args:
            first: Name of a model.
            second: Name of another.

        Returns:
            `McNemarTest`: counts and the exact, two-sided p-value.

        Raises:
            ValueError: If there is no model of that name.
        """
        from scipy import stats

        for name in (first, second):
            if name not in self._correct:
                raise ValueError(
                    f"Expected one of {list(self._correct)}. Received: {name!r}"
                )
        only_first = int(np.sum(self._correct[first] & ~self._correct[second]))
        only_second = int(np.sum(self._correct[second] & ~self._correct[first]))
        differ = only_first + only_second
        p_value = stats.binomtest(only_first, differ).pvalue if differ else 1.0
        return McNemarTest(only_first, only_second, float(p_value))

    def to_dict(self):
        """Returns all figures as a dict that JSON can hold, by model."""
        return {
            str(name): {
                **model._asdict(),
                "accuracy_interval": list(model.accuracy_interval),
                "latency": {str(k): ms for k, ms in model.latency.items()},
            }
            for name, model in self.models.items()
        }

    def to_dataframe(self):
        """Returns a `pandas.DataFrame` with a row for each model.

        Its columns are the fields of `ModelReport`, with one for each end of
        the interval and for each batch size (`"latency_128"`).

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError(
                "`to_dataframe` needs pandas: "
                "`pip install 'keras-distill[reports]'`"
            ) from None
        rows = {}
        for name, model in self.models.items():
            row = model._asdict()
            lower, upper = row.pop("accuracy_interval")
            latency = row.pop("latency")
            rows[name] = {
                **row,
                "accuracy_lower": lower,
                "accuracy_upper": upper,
                **{f"latency_{size}": ms for size, ms in latency.items()},
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def to_markdown(self):
        """Returns the table in Markdown."""
        return format_markdown(self._format_rows())

    def plot(self, ax=None):
        """Draws the accuracy of each model against its size.

        Args:
            ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: those
                of a new figure.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        from keras_distill import plots

        return plots.accuracy_against_size(self, ax)

    def __str__(self):
        return format_table(self._format_rows())

    # What a notebook without Markdown and the prompt show.
    __repr__ = __str__

    def _repr_markdown_(self):
        return self.to_markdown()

    def _format_rows(self):
        """Returns the cells of the table, without columns that are empty."""
        columns = [
            ["", *map(str, self.models)],
            ["parameters", *self._format("parameters", format_count)],
            ["size", *self._format("bytes", _format_bytes)],
            ["multiply-adds", *self._format("multiply_adds", format_count)],
            [
                f"errors of {self.examples:,}",
                *self._format("errors", format_count),
            ],
            [
                "accuracy in % [95 %]",
                *(_format_accuracy(each) for each in self.models.values()),
            ],
            [
                "as the teacher in %",
                *self._format("teacher_agreement", _format_percent),
            ],
            ["KL to the teacher", *self._format("teacher_kl_divergence")],
            [
                "calibration error",
                *self._format("expected_calibration_error"),
            ],
        ]
        sizes = next(iter(self.models.values())).latency
        columns += [
            [
                f"ms for {size}",
                *(f"{each.latency[size]:.2f}" for each in self.models.values()),
            ]
            for size in sizes
        ]
        columns = [column for column in columns if any(column[1:])]
        return list(zip(*columns, strict=True))

    def _format(self, field, form="{:.4f}"):
        form = form if callable(form) else form.format
        values = [getattr(model, field) for model in self.models.values()]
        return ["" if value is None else form(value) for value in values]


def compare(
    models,
    data,
    *,
    teacher=None,
    temperature=1.0,
    num_bins=15,
    batch_size=None,
    latency_batch_sizes=(1, 128),
    from_logits=True,
    ignore_class=None,
    verbose="auto",
):
    """Compares models on a test set: did it help, how close, at what cost?

    All models see the same batches, one pass in all.

    Example:

    ```python
    report = keras_distill.compare(
        {"teacher": teacher, "from labels": first, "distilled": student},
        (x_test, y_test),
    )
    print(report)
    print(report.mcnemar("distilled", "from labels"))
    ```

    Args:
        models: Dict from names to `keras.Model`s with one output of shape
            `(batch, ..., classes)`, or callables `inputs -> outputs`.
        data: The test set: a tuple of arrays `(x, y)`, or a dataset or
            generator of batches of these. Labels are class ids or one-hot.
        teacher: Name of the model that the others are compared with. Defaults
            to `None`: the one called "teacher", whatever its case, if any.
        temperature: Positive float, for the divergence from the teacher.
            Defaults to `1.0`.
        num_bins: Integer, bins of the calibration error. Defaults to `15`.
        batch_size: Integer, for arrays and datasets without batches. Defaults
            to `None`: 128 for arrays.
        latency_batch_sizes: Batch sizes at which the time of one call is
            measured, the median of up to 100 calls, with all models taking
            turns. An empty tuple leaves it out. Defaults to `(1, 128)`.
        from_logits: Whether the outputs of models are logits (`True`, the
            default) or probabilities, where no softmax can be found in them.
        ignore_class: Integer, the label of what does not count, such as -1.
            Defaults to `None`.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.evaluate`.

    Returns:
        `Comparison`. Of sequences every position is an example, but for those
        that a Keras mask hides.

    Raises:
        ValueError: If an argument is not of the kind above, or the data has
            no labels, sample weights, or no examples.
    """
    _check_models(models)
    teacher = _find_teacher(teacher, models)
    check_temperature("temperature", temperature)
    if not isinstance(latency_batch_sizes, (list, tuple)):
        raise ValueError(
            "Expected `latency_batch_sizes` to be a tuple of integers, empty "
            "to leave the latency out. Received: "
            f"latency_batch_sizes={latency_batch_sizes!r}"
        )
    for size in latency_batch_sizes:
        check_integer("latency_batch_sizes", size, low=1)
    if ignore_class is not None:
        check_integer("ignore_class", ignore_class, low=-math.inf)
    functions = {
        name: compile_logits(model, from_logits, served=True)
        for name, model in models.items()
    }
    softened = {
        name: compile_logits(model, from_logits, temperature)
        for name, model in models.items()
        if temperature != 1
        and teacher is not None
        and _has_logits_of_its_own(model)
    }
    scores = {
        name: _Scores(temperature, num_bins, name != teacher and bool(teacher))
        for name in models
    }
    batches, length = to_batches(data, batch_size)
    inputs: typing.Any = None
    for batch in show_progress(batches, length, verbose):
        x, y = _unpack(batch)
        outputs = {name: function(x) for name, function in functions.items()}
        logits = {name: each for name, (each, _) in outputs.items()}
        if inputs is None:
            inputs = keras.tree.map_structure(ops.convert_to_numpy, x)
            _check_logits(logits)
        labels = to_class_ids(y, next(iter(logits.values())))
        counted = _find_counted(
            labels, ignore_class, [mask for _, mask in outputs.values()]
        )
        at_temperature = {
            **logits,
            **{name: function(x)[0] for name, function in softened.items()},
        }
        if counted is not None and not counted.any():
            continue
        for name, each in scores.items():
            each.update(
                *(
                    tensor if tensor is None else _select(tensor, counted)
                    for tensor in (
                        labels,
                        logits[name],
                        at_temperature[name],
                        logits.get(teacher),
                        at_temperature.get(teacher),
                    )
                )
            )
    if not all(each.counts() for each in scores.values()):
        raise ValueError(
            f"Expected at least one example that counts. Received: {data}"
        )
    latency: dict[str, dict] = {name: {} for name in models}
    for size in latency_batch_sizes:
        found = cost.measure_latency(functions, inputs, size)
        for name, milliseconds in found.items():
            latency[name][size] = milliseconds
    return Comparison(
        {
            name: ModelReport(
                parameters=cost.count_parameters(model),
                bytes=cost.count_bytes(model),
                multiply_adds=cost.measure_multiply_adds(model, inputs),
                **scores[name].results(),
                latency=latency[name],
            )
            for name, model in models.items()
        },
        {name: each.correct() for name, each in scores.items()},
        teacher,
    )


class _Scores:
    """What is summed up over the batches for one model."""

    def __init__(self, temperature, num_bins, has_teacher):
        self._calibration = ExpectedCalibrationError(num_bins)
        self._to_teacher = (
            [TeacherAgreement(), TeacherKLDivergence(temperature)]
            if has_teacher
            else []
        )
        self._correct: list = []

    def update(self, labels, logits, at_temperature, of_teacher, of_teacher_at):
        labels = ops.convert_to_numpy(labels)
        outside = labels[(labels < 0) | (labels >= logits.shape[-1])]
        if outside.size:
            raise ValueError(
                f"Expected labels from 0 to {logits.shape[-1] - 1}. Received: "
                f"a label of {outside.flat[0]}"
            )
        rows = ops.convert_to_numpy(logits)
        # No class is the most likely one where there is a NaN.
        known = ~np.isnan(rows).any(axis=-1)
        self._correct.append(
            (known & (np.argmax(rows, axis=-1) == labels)).ravel()
        )
        self._calibration.update_state(labels, logits)
        if self._to_teacher:
            agreement, divergence = self._to_teacher
            agreement.update_state(of_teacher, logits)
            divergence.update_state(of_teacher_at, at_temperature)

    def counts(self):
        """Returns whether it has seen anything."""
        return bool(self._correct)

    def correct(self):
        return np.concatenate(self._correct)

    def results(self):
        """Returns the fields of `ModelReport` that come from the data."""
        correct = self.correct()
        agreement, divergence = [
            float(metric.result()) for metric in self._to_teacher
        ] or (None, None)
        return {
            "errors": int(np.sum(~correct)),
            "accuracy": float(np.mean(correct)),
            "accuracy_interval": _find_interval(
                int(correct.sum()), len(correct)
            ),
            "teacher_agreement": agreement,
            "teacher_kl_divergence": divergence,
            "expected_calibration_error": float(self._calibration.result()),
        }


def _find_counted(labels, ignore_class, masks):
    """Returns which examples or positions count, or `None` for all.

    Args:
        labels: Class ids of a batch.
        ignore_class: As in `compare`.
        masks: Keras masks of the models' outputs, or `None` for each.
    """
    hiding = [ops.convert_to_numpy(mask) for mask in masks if mask is not None]
    if ignore_class is not None:
        hiding.append(ops.convert_to_numpy(labels) != ignore_class)
    return np.logical_and.reduce(hiding) if hiding else None


def _select(tensor, counted):
    if counted is None:
        return tensor
    return ops.convert_to_numpy(tensor)[counted]


def _find_interval(successes, trials):
    from scipy import stats

    interval = stats.binomtest(successes, trials).proportion_ci(
        _CONFIDENCE_LEVEL, method="wilson"
    )
    return float(interval.low), float(interval.high)


def _unpack(batch):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(batch))
    if y is None:
        raise ValueError(
            "Expected data with labels, `(x, y)`. Received: inputs only"
        )
    if keras.tree.is_nested(y):
        raise ValueError(
            "Expected the labels of one output. Received: "
            f"{keras.tree.map_structure(lambda each: each.shape, y)}"
        )
    if sample_weight is not None:
        raise ValueError(
            "Every example counts once: expected data `(x, y)`. Received: "
            "data with sample weights"
        )
    return x, y


def _has_logits_of_its_own(model):
    """Whether the logits at a temperature are not those that are served.

    The mean of an ensemble is another one at another temperature.
    """
    if isinstance(model, Ensemble):
        return model.averages_at_a_temperature
    return isinstance(model, keras.layers.Layer) and serves_softer(model)


def _check_logits(logits):
    """Looks at the first batch of all models.

    Args:
        logits: Dict of what each model returned.

    Raises:
        ValueError: If the shapes differ.
    """
    shapes = {name: tuple(each.shape) for name, each in logits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "Expected models with outputs of the same shape, with the same "
            f"number of classes. Received: {shapes}"
        )
    for name, each in logits.items():
        if look_like_probabilities(ops.convert_to_numpy(each)):
            warnings.warn(
                f"The outputs of {name!r} look like probabilities, but are "
                "taken for logits: no softmax was found in it. Pass "
                "`from_logits=False`.",
                stacklevel=3,
            )


def _check_models(models):
    if not isinstance(models, dict) or not models:
        raise ValueError(
            "Expected `models` to be a dict from names to models. "
            f"Received: models={models!r}"
        )
    for name, model in models.items():
        if isinstance(model, type) or not callable(model):
            raise ValueError(
                "Expected each of `models` to be a `keras.Model` or a "
                f"callable. Received: {name!r}: {model!r}"
            )


def _find_teacher(teacher, models):
    if teacher is None:
        names = [name for name in models if str(name).lower() == "teacher"]
        return names[0] if names else None
    if teacher not in models:
        raise ValueError(
            f"Expected `teacher` to be one of {list(models)}. "
            f"Received: teacher={teacher!r}"
        )
    return teacher


def _format_accuracy(model):
    lower, upper = model.accuracy_interval
    return f"{100 * model.accuracy:.2f} [{100 * lower:.2f}, {100 * upper:.2f}]"


def _format_percent(share):
    return f"{100 * share:.2f}"


def _format_bytes(size):
    units = ["B", "kB", "MB", "GB"]
    power = min(int(math.log(max(size, 1), 1000)), len(units) - 1)
    digits = 0 if power == 0 else 1
    return f"{size / 1000**power:,.{digits}f} {units[power]}"

"""`compare`: errors, agreement with the teacher and cost in one table."""

import math
import typing

import keras

from keras_distill.data.batches import to_batches
from keras_distill.evaluation import cost
from keras_distill.evaluation.scores import Scores
from keras_distill.evaluation.scores import score_batches
from keras_distill.evaluation.statistics import run_mcnemar_test
from keras_distill.evaluation.tables import COST_COLUMNS
from keras_distill.evaluation.tables import SCORE_COLUMNS
from keras_distill.evaluation.tables import Table
from keras_distill.evaluation.tables import format_interval
from keras_distill.evaluation.tables import join_columns
from keras_distill.forward import serves_softer
from keras_distill.inference import compile_logits
from keras_distill.inference import show_progress
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.validation import check_integer
from keras_distill.validation import check_positive


class ModelReport(typing.NamedTuple):
    """The results of `compare` for one model.

    Args:
        parameters: Number of weights, or `None` if the model is not a Keras
            model.
        bytes: Size of the weights in memory, or `None` if the model is not a
            Keras model.
        macs: Number of MACs (multiply-accumulate operations) for one example,
            or `None` if a loop hides them.
        errors: Number of examples whose most likely class is not the label.
            An example with a NaN in the logits is an error.
        accuracy: Share of the examples that the model gets right.
        accuracy_interval: Lower and upper end of the 95 % confidence interval
            of the accuracy (Wilson, 1927).
        teacher_agreement: Share of the examples in which the model and the
            teacher have the same most likely class, or `None` for the teacher.
        teacher_kl_divergence: Mean KL divergence from the teacher's
            probabilities in nats, or `None` for the teacher.
        expected_calibration_error: Result of the metric
            `ExpectedCalibrationError`.
        latency: Dict from batch size to the median time of one call in
            milliseconds.
    """

    parameters: int | None
    bytes: int | None
    macs: int | None
    errors: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    teacher_agreement: float | None
    teacher_kl_divergence: float | None
    expected_calibration_error: float
    latency: dict[int, float]


class Comparison(Table):
    """The result of `compare`. Print it to see a table.

    Args:
        models: Dict from the name of each model to its `ModelReport`.
        correct: Dict from the name of each model to a boolean array: which
            examples the model gets right.
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
        """Tests whether one model is better than another model.

        The test looks only at the examples that exactly one of the two models
        gets right. If both models are equally good, each of them gets half of
        these examples right on average (McNemar, 1947, "Note on the sampling
        error of the difference between correlated proportions or percentages").

        Example:

        ```python
        report = keras_distill.compare(
            {"from labels": first, "distilled": second}, (x_test, y_test)
        )
        print(report.mcnemar("distilled", "from labels").p_value)
        ```

        Args:
            first: Name of a model.
            second: Name of another model.

        Returns:
            `McNemarTest`: counts and the exact, two-sided p-value.

        Raises:
            ValueError: If there is no model with this name.
        """
        for name in (first, second):
            if name not in self._correct:
                raise ValueError(
                    f"Expected one of {list(self._correct)}. Received: {name!r}"
                )
        return run_mcnemar_test(self._correct[first], self._correct[second])

    def to_dict(self):
        """Returns the results as a dict from names to dicts, ready for JSON."""
        return {
            str(name): {
                **model._asdict(),
                "accuracy_interval": list(model.accuracy_interval),
                "latency": {
                    str(size): ms for size, ms in model.latency.items()
                },
            }
            for name, model in self.models.items()
        }

    def to_dataframe(self):
        """Returns a `pandas.DataFrame` with one row for each model.

        The columns are the fields of `ModelReport`. The interval has the
        columns `"accuracy_lower"` and `"accuracy_upper"`, and the latency has
        one column for each batch size, for example `"latency_128"`.

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

    def plot(self, ax=None):
        """Plots the accuracy of each model against its size.

        Args:
            ax: `matplotlib.axes.Axes` to draw on. Defaults to `None`: the axes
                of a new figure.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        from keras_distill import plots

        return plots.accuracy_against_size(self, ax)

    def _format_rows(self):
        models = list(self.models.values())
        columns = []
        for heading, field, form in (*COST_COLUMNS, *SCORE_COLUMNS):
            values = [getattr(model, field) for model in models]
            cells = ["" if value is None else form(value) for value in values]
            if field == "accuracy":
                heading += " [95 %]"
                cells = [
                    f"{cell} {format_interval(model.accuracy_interval)}"
                    for cell, model in zip(cells, models, strict=True)
                ]
            columns.append((heading.format(examples=self.examples), cells))
        columns += [
            (
                f"ms for {size}",
                [f"{model.latency[size]:.2f}" for model in models],
            )
            for size in models[0].latency
        ]
        return join_columns(self.models, columns)


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
    """Compares models on a test set.

    The result shows how many errors each model makes, how close it is to the
    teacher, and what it costs. All models see the same batches, in one pass
    over the data.

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
            generator of batches `(x, y)`. Labels are class ids or one-hot.
        teacher: Name of the model to compare the other models with. Defaults
            to `None`: the model named "teacher" in upper or lower case, or no
            teacher if there is no such model.
        temperature: Positive float. Temperature of the KL divergence from the
            teacher. Defaults to `1.0`.
        num_bins: Integer. Number of bins of the calibration error. Defaults
            to `15`.
        batch_size: Integer, for arrays and for datasets without batches.
            Defaults to `None`: 128 for arrays.
        latency_batch_sizes: Tuple of batch sizes at which to measure the
            latency, which is the median time of up to 100 calls. The models
            take turns. An empty tuple skips the measurement. Defaults to
            `(1, 128)`.
        from_logits: Whether the models return logits (`True`, the default) or
            probabilities. Applies only to models in which no softmax is found.
        ignore_class: Integer. Examples with this label do not count, for
            example -1. Defaults to `None`: all examples count.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.evaluate`.

    Returns:
        `Comparison`. In sequences, each position counts as one example, except
        the positions that a Keras mask hides.

    Raises:
        ValueError: If an argument is invalid, or if the data has sample
            weights, no labels, or no examples.
    """
    _check_models(models)
    teacher = _find_teacher(teacher, models)
    check_positive("temperature", temperature)
    _check_latency_batch_sizes(latency_batch_sizes)
    if ignore_class is not None:
        check_integer("ignore_class", ignore_class, low=-math.inf)
    functions = {
        name: compile_logits(model, from_logits, served=True)
        for name, model in models.items()
    }
    # Most models have the same logits at every temperature.
    softening_functions = {
        name: compile_logits(model, from_logits, temperature)
        for name, model in models.items()
        if temperature != 1 and teacher is not None and _softens(model)
    }
    scores = {
        name: Scores(temperature, num_bins, teacher not in (None, name))
        for name in models
    }
    batches, length = to_batches(data, batch_size)
    inputs = score_batches(
        scores,
        functions,
        softening_functions,
        show_progress(batches, length, verbose),
        teacher,
        ignore_class,
    )
    if any(model_scores.is_empty() for model_scores in scores.values()):
        raise ValueError(
            "Expected `data` to have at least one example that counts. "
            "Received: no examples, or only examples that a mask or "
            "`ignore_class` excludes"
        )
    latency = {
        size: cost.measure_latency(functions, inputs, size)
        for size in latency_batch_sizes
    }
    reports = {
        name: ModelReport(
            parameters=cost.count_parameters(model),
            bytes=cost.count_bytes(model),
            macs=cost.measure_macs(model, inputs),
            **scores[name].compute_results(),
            latency={size: times[name] for size, times in latency.items()},
        )
        for name, model in models.items()
    }
    correct = {name: scores[name].get_correct() for name in models}
    return Comparison(reports, correct, teacher)


def _softens(model) -> bool:
    """Returns whether the logits of a model depend on the temperature."""
    if isinstance(model, Ensemble):
        return model.averages_at_a_temperature
    return isinstance(model, keras.layers.Layer) and serves_softer(model)


def _find_teacher(teacher, models):
    """Returns the name of the teacher, or `None`."""
    if teacher is None:
        names = [name for name in models if str(name).lower() == "teacher"]
        return names[0] if names else None
    if teacher not in models:
        raise ValueError(
            f"Expected `teacher` to be one of {list(models)}. "
            f"Received: teacher={teacher!r}"
        )
    return teacher


def _check_models(models) -> None:
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


def _check_latency_batch_sizes(sizes) -> None:
    if not isinstance(sizes, (list, tuple)):
        raise ValueError(
            "Expected `latency_batch_sizes` to be a tuple of integers. An "
            "empty tuple skips the measurement. Received: "
            f"latency_batch_sizes={sizes!r}"
        )
    for size in sizes:
        check_integer("latency_batch_sizes", size, low=1)

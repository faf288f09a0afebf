"""`compare`: errors, agreement with the teacher and cost in one table."""

import json
import typing

import numpy as np

from keras_distill import inference
from keras_distill.data.batches import to_batches
from keras_distill.evaluation import cost
from keras_distill.evaluation import tables
from keras_distill.evaluation.scores import Scores
from keras_distill.evaluation.scores import score_batches
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperature


class ModelReport(typing.NamedTuple):
    """The results of `compare` for one model.

    Args:
        parameters: Number of weights, or `None` for a function.
        bytes: Size of the weights in memory, or `None` for a function.
        macs: Number of MACs (multiply-accumulate operations) for one example,
            or `None` if a loop hides them.
        errors: Number of examples for which the most likely class is not the
            label. An example with a NaN in the logits is an error.
        accuracy: Share of the examples that the model gets right.
        accuracy_interval: Lower and upper end of the 95 % confidence interval
            of the accuracy (Wilson, 1927).
        teacher_agreement: Result of the metric `TeacherAgreement`, or `None`
            for the teacher.
        teacher_kl_divergence: Result of the metric `TeacherKLDivergence`, or
            `None` for the teacher.
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


class McNemarTest(typing.NamedTuple):
    """The result of McNemar's test of two models.

    Args:
        only_first: Number of examples that only the first model gets right.
        only_second: Number of examples that only the second model gets right.
        p_value: The probability of a difference at least this large if both
            models are equally good. The test is exact and two-sided
            (McNemar, 1947).
    """

    only_first: int
    only_second: int
    p_value: float


class Comparison(tables.Table):
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
        these examples right on average (McNemar, 1947).

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
            `McNemarTest`.

        Raises:
            ValueError: If there is no model with this name.
        """
        from scipy import stats

        for name in (first, second):
            if not isinstance(name, str) or name not in self._correct:
                raise ValueError(
                    f"Expected one of {list(self._correct)}. Received: {name!r}"
                )
        one, other = self._correct[first], self._correct[second]
        only_first = int(np.sum(one & ~other))
        only_second = int(np.sum(other & ~one))
        total = only_first + only_second
        p_value = stats.binomtest(only_first, total).pvalue if total else 1.0
        return McNemarTest(only_first, only_second, float(p_value))

    def to_dict(self):
        """Converts the results for JSON.

        Returns:
            Dict from the name of each model to the fields of its
            `ModelReport`.
        """
        reports = {
            str(name): model._asdict() for name, model in self.models.items()
        }
        # The keys become strings, and tuples become lists.
        return json.loads(json.dumps(reports))

    def to_dataframe(self):
        """Converts the results for pandas.

        Returns:
            `pandas.DataFrame` with one row for each model, and one column for
            each field of `ModelReport`, each batch size (`"latency_128"`), and
            each end of the interval (`"accuracy_lower"`, `"accuracy_upper"`).

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
        rows = pd.json_normalize(list(self.to_dict().values()), sep="_")
        ends = ["accuracy_lower", "accuracy_upper"]
        rows[ends] = rows.pop("accuracy_interval").to_list()
        return rows.set_index(pd.Index(self.models))

    def plot(self, ax=None):
        """Plots the accuracy of each model against its size.

        Args:
            ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        from keras_distill import plots

        return plots.accuracy_against_size(self, ax)

    def _format_columns(self):
        models = list(self.models.values())
        columns = {}
        for heading, field, form in (
            *tables.COST_COLUMNS,
            *tables.SCORE_COLUMNS,
        ):
            values = [getattr(model, field) for model in models]
            cells = ["" if value is None else form(value) for value in values]
            if field == "accuracy":
                heading += " [95 %]"
                cells = [
                    f"{cell} {tables.format_interval(model.accuracy_interval)}"
                    for cell, model in zip(cells, models, strict=True)
                ]
            columns[heading.format(examples=self.examples)] = cells
        for size in models[0].latency:
            columns[f"ms for {size}"] = [
                f"{model.latency[size]:.2f}" for model in models
            ]
        return self.models, columns


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
            to `None`: the model named "teacher" in upper or lower case, if any.
        temperature: Float from 1e-3 to 1e4. Temperature of the KL divergence
            from the teacher. Defaults to `1.0`.
        num_bins: Integer. Number of bins of the calibration error. Defaults
            to `15`.
        batch_size: Integer, for arrays (default: 128) and single examples.
        latency_batch_sizes: Batch size or tuple of batch sizes at which to
            measure the latency, which is the median time of up to 100 calls.
            An empty tuple skips the measurement. Defaults to `(1, 128)`.
        from_logits: Whether the models return logits (`True`, the default) or
            probabilities. Not used if a softmax at the end is recognized.
        ignore_class: Integer. Examples with this label do not count. Defaults
            to `None`: all examples count.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.evaluate`.

    Returns:
        `Comparison`. In sequences, each position counts as one example, except
        the positions that a Keras mask hides.

    Raises:
        ValueError: If an argument is invalid, or if the data has sample
            weights, no labels, or no examples.
    """
    if not isinstance(models, dict) or not models:
        raise ValueError(
            "Expected `models` to be a dict from names to models. "
            f"Received: models={models!r}"
        )
    teacher = _find_teacher(teacher, models)
    check_temperature("temperature", temperature)
    sizes = [
        check_integer("latency_batch_sizes", size, low=1)
        for size in np.ravel(latency_batch_sizes).tolist()
    ]
    if ignore_class is not None:
        check_integer("ignore_class", ignore_class)
    functions = {
        name: inference.compile_logits(model, from_logits)
        for name, model in models.items()
    }
    softened = _compile_at_temperature(models, from_logits, temperature)
    scores = {
        name: Scores(temperature, num_bins, teacher not in (None, name))
        for name in models
    }
    batches, length = to_batches(data, batch_size)
    with inference.show_progress(batches, length, verbose) as shown:
        inputs = score_batches(
            scores,
            functions if teacher is None else functions | softened,
            shown,
            teacher,
            ignore_class,
        )
    correct = {name: scores[name].get_correct() for name in models}
    if not len(next(iter(correct.values()))):
        raise ValueError(
            "Expected `data` to have at least one example that counts. "
            "Received: no examples, or only examples that a mask or "
            "`ignore_class` excludes"
        )
    reports = _make_reports(models, functions, scores, inputs, sizes)
    return Comparison(reports, correct, teacher)


def _make_reports(models, functions, scores, inputs, sizes) -> dict:
    """Measures the cost of each model, and adds its scores."""
    latency = {
        size: cost.measure_latency(functions, inputs, size) for size in sizes
    }
    return {
        name: ModelReport(
            parameters=cost.count_parameters(model),
            bytes=cost.count_bytes(model),
            macs=cost.measure_macs(model, inputs),
            **scores[name].compute_results(),
            latency={size: times[name] for size, times in latency.items()},
        )
        for name, model in models.items()
    }


def _compile_at_temperature(models, from_logits, temperature) -> dict:
    """Compiles ensembles that also return their mean at a temperature."""
    return {
        name: inference.compile_logits(model, from_logits, (None, temperature))
        for name, model in models.items()
        if temperature != 1 and inference.depends_on_temperature(model)
    }


def _find_teacher(teacher, models):
    """Returns the name of the teacher, or `None`."""
    if teacher is None:
        names = [name for name in models if str(name).lower() == "teacher"]
        return names[0] if names else None
    if not isinstance(teacher, str) or teacher not in models:
        raise ValueError(
            f"Expected `teacher` to be one of {list(models)}. "
            f"Received: teacher={teacher!r}"
        )
    return teacher

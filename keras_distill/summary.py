"""What several seeds have in common."""

from keras_distill.report import Comparison
from keras_distill.tables import format_count
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range
from keras_distill.tables import format_table

# Column, field of `ModelReport`, factor, format.
_COLUMNS = (
    ("errors of {examples:,}", "errors", 1, format_count),
    ("accuracy in %", "accuracy", 100, "{:.2f}"),
    ("as the teacher in %", "teacher_agreement", 100, "{:.2f}"),
    ("KL to the teacher", "teacher_kl_divergence", 1, "{:.4f}"),
    ("calibration error", "expected_calibration_error", 1, "{:.4f}"),
)


class ComparisonSummary:
    """What `summarize` returns: prints as a table of medians and ranges.

    Args:
        values: Dict from the name of each model to a dict: from the names of
            the fields of `ModelReport` to a list, with a value for each seed.
        examples: Number of examples.
    """

    def __init__(self, values, examples):
        self.values = values
        self.examples = examples

    def to_dict(self):
        """Returns all values as a dict that JSON can hold, by model."""
        return {
            str(name): {field: list(each) for field, each in fields.items()}
            for name, fields in self.values.items()
        }

    def to_markdown(self):
        """Returns the table in Markdown."""
        return format_markdown(self._format_rows())

    def __str__(self):
        return format_table(self._format_rows())

    __repr__ = __str__

    def _repr_markdown_(self):
        return self.to_markdown()

    def _format_rows(self):
        """Returns the cells of the table, without columns that are empty."""
        columns = [["", *map(str, self.values)]]
        for title, field, factor, form in _COLUMNS:
            cells = [
                format_range([factor * value for value in fields[field]], form)
                if None not in fields[field]
                else ""
                for fields in self.values.values()
            ]
            if any(cells):
                columns.append([title.format(examples=self.examples), *cells])
        return list(zip(*columns, strict=True))


def summarize(reports):
    """Summarizes comparisons of the same models, trained with several seeds.

    One seed says little: students that differ in nothing else differ in their
    errors. Each cell of the table is the median and, in brackets, the smallest
    and the largest value.

    Example:

    ```python
    reports = [
        keras_distill.compare(models, (x_test, y_test), latency_batch_sizes=())
        for models in (
            {"teacher": teacher, "distilled": first},
            {"teacher": teacher, "distilled": second},
        )
    ]
    print(keras_distill.summarize(reports))
    ```

    Args:
        reports: List of `Comparison`s, one for each seed, of models of the
            same names; or a single one.

    Returns:
        `ComparisonSummary`.

    Raises:
        ValueError: If there is none, or they differ in the names of the models
            or in the number of examples.
    """
    if isinstance(reports, Comparison):
        reports = [reports]
    reports = list(reports)
    if not reports or not all(
        isinstance(report, Comparison) for report in reports
    ):
        raise ValueError(
            "Expected `reports` to be a list of results of `compare`. "
            f"Received: {reports!r}"
        )
    first = reports[0]
    for report in reports[1:]:
        if list(report.models) != list(first.models):
            raise ValueError(
                "Expected all `reports` to be of the same models. Received: "
                f"{list(first.models)} and {list(report.models)}"
            )
        if report.examples != first.examples:
            raise ValueError(
                "Expected all `reports` to be of the same test set. Received: "
                f"{first.examples} and {report.examples} examples"
            )
    return ComparisonSummary(
        {
            name: {
                field: [getattr(each.models[name], field) for each in reports]
                for _, field, _, _ in _COLUMNS
            }
            for name in first.models
        },
        first.examples,
    )

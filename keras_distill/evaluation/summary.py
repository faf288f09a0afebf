"""`summarize`: medians and ranges of comparisons over several seeds."""

from keras_distill.evaluation import tables
from keras_distill.evaluation.comparison import Comparison


class ComparisonSummary(tables.Table):
    """The result of `summarize`. Print it to see a table.

    Args:
        values: Dict from the name of each model to a dict, which maps fields
            of `ModelReport` to a list with one value for each seed.
        examples: Number of examples.
    """

    def __init__(self, values, examples):
        self.values = values
        self.examples = examples

    def to_dict(self):
        """Converts the values for JSON.

        Returns:
            `values`, with names of models that are strings.
        """
        return {str(name): fields for name, fields in self.values.items()}

    def _format_columns(self):
        columns = {}
        for heading, field, form in tables.SCORE_COLUMNS:
            seeds = [fields[field] for fields in self.values.values()]
            columns[heading.format(examples=self.examples)] = [
                "" if None in values else tables.format_range(values, form)
                for values in seeds
            ]
        return self.values, columns


def summarize(reports):
    """Summarizes the results of `compare` over several seeds.

    One seed is not enough, because the number of errors changes from seed to
    seed. Each cell of the table is the median, followed by the minimum and the
    maximum in brackets.

    Example:

    ```python
    reports = [
        keras_distill.compare({"distilled": model}, (x_test, y_test))
        for model in (first, second)
    ]
    print(keras_distill.summarize(reports))
    ```

    Args:
        reports: List of `Comparison`s, one for each seed, with the same names
            of models; or a single `Comparison`.

    Returns:
        `ComparisonSummary`.

    Raises:
        ValueError: If `reports` is empty, or if the reports differ in the
            names of the models or in the number of examples.
    """
    if not isinstance(reports, (list, tuple)):
        reports = [reports]
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
                "Expected all `reports` to have the same models. Received: "
                f"{list(first.models)} and {list(report.models)}"
            )
        if report.examples != first.examples:
            raise ValueError(
                "Expected all `reports` to have the same test set. Received: "
                f"{first.examples} and {report.examples} examples"
            )
    values = {
        name: {
            field: [getattr(report.models[name], field) for report in reports]
            for _, field, _ in tables.SCORE_COLUMNS
        }
        for name in first.models
    }
    return ComparisonSummary(values, first.examples)

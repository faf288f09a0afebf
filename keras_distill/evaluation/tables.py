"""Tables as text and Markdown, and the formats of their cells."""

import math
import typing

import numpy as np


def format_count(count: float) -> str:
    """Formats an integer, or the median of two integers."""
    return f"{count:,.1f}".removesuffix(".0")


def format_bytes(size: int) -> str:
    """Formats a number of bytes with its unit."""
    units = ["B", "kB", "MB", "GB"]
    power = min(int(math.log(max(size, 1), 1000)), len(units) - 1)
    digits = 0 if power == 0 else 1
    return f"{size / 1000**power:,.{digits}f} {units[power]}"


def format_percent(share: float) -> str:
    """Formats a share of 1 in percent."""
    return f"{100 * share:.2f}"


def format_interval(interval: tuple[float, float]) -> str:
    """Formats an interval of shares of 1 in percent."""
    lower, upper = interval
    return f"[{format_percent(lower)}, {format_percent(upper)}]"


def format_range(values, form="{:g}") -> str:
    """Formats values of several seeds as `"median [minimum, maximum]"`."""
    form = form if callable(form) else form.format
    median, low, high = (
        form(value) for value in (np.median(values), min(values), max(values))
    )
    return median if len(values) == 1 else f"{median} [{low}, {high}]"


# Heading, field of `ModelReport`, and a function that formats its value.
COST_COLUMNS: tuple = (
    ("parameters", "parameters", format_count),
    ("size", "bytes", format_bytes),
    ("MACs", "macs", format_count),
)
SCORE_COLUMNS: tuple = (
    ("errors of {examples:,}", "errors", format_count),
    ("accuracy in %", "accuracy", format_percent),
    ("as the teacher in %", "teacher_agreement", format_percent),
    ("KL to the teacher", "teacher_kl_divergence", "{:.4f}".format),
    ("calibration error", "expected_calibration_error", "{:.4f}".format),
)


def format_markdown(rows: typing.Sequence[typing.Sequence[str]]) -> str:
    """Formats rows of cells as a Markdown table. The first is the heading."""
    heading, *body = (
        [cell.replace("|", r"\|") for cell in row] for row in rows
    )
    rule = ["---", *["--:"] * (len(heading) - 1)]
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (heading, rule, *body)
    )


class Table:
    """Base class of results that print themselves as a table."""

    def to_markdown(self):
        """Formats the table in Markdown.

        Returns:
            String with one line for each row.
        """
        return format_markdown(self._list_rows())

    def __str__(self):
        rows = self._list_rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]
            )
            for name, *cells in rows
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    # A notebook without Markdown and the interactive prompt show this.
    __repr__ = __str__

    def _repr_markdown_(self):
        return self.to_markdown()

    def _list_rows(self):
        """Returns the heading and the rows, without empty columns."""
        names, columns = self._format_columns()
        filled = [
            [heading, *cells]
            for heading, cells in columns.items()
            if any(cells)
        ]
        return list(zip(["", *map(str, names)], *filled, strict=True))

    def _format_columns(self):
        """Returns the names of the rows, and a dict from headings to cells."""
        raise NotImplementedError

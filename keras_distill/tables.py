"""Rows of text as tables."""

import numpy as np


def format_table(rows):
    """Aligns rows of text: the first column left, the others right.

    Args:
        rows: Sequence of sequences of strings. The first is the heading.

    Returns:
        String of several lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def format_markdown(rows):
    """Formats rows of text as a table in Markdown.

    Args:
        rows: As in `format_table`.

    Returns:
        String of several lines.
    """
    heading, *others = (
        [cell.replace("|", r"\|") for cell in row] for row in rows
    )
    rule = ["---", *["--:"] * (len(heading) - 1)]
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (heading, rule, *others)
    )


def format_count(count):
    """Formats a whole number, or what is between two of them."""
    return f"{count:,.1f}".removesuffix(".0")


def format_range(values, form="{:g}"):
    """Formats what was measured with several seeds.

    Args:
        values: Sequence of numbers.
        form: How each is formatted: a format, or a function to a string.

    Returns:
        `"median [smallest, largest]"`, or for a single value the value.
    """
    form = form if callable(form) else form.format
    middle, low, high = (
        form(value) for value in (np.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} [{low}, {high}]"

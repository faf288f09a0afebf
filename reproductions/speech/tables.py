"""Tables that several experiments have."""

import numpy as np

from keras_distill.evaluation.tables import format_markdown


def format_systems(systems, paper):
    """Returns a table of systems in Markdown.

    Args:
        systems: Dict from names to what `scores.describe` returns.
        paper: Dict from names to the paper's shares of training and of test
            frames and word error rates, in percent, or `None`.
    """
    rows = [
        [
            "system",
            "networks",
            "training frames",
            "paper",
            "development",
            "test frames",
            "paper",
            "without silence",
            "word errors",
            "paper",
        ]
    ]
    for name, each in systems.items():
        train, frames, words = (
            "" if value is None else f"{value}"
            for value in paper.get(name, (None, None, None))
        )
        rows.append(
            [
                name,
                str(len(each["frames"])),
                format_mean(each["train"]),
                train,
                format_mean(each["development"]),
                format_mean(each["frames"]),
                frames,
                format_mean(each["speech"]),
                format_interval(
                    np.mean(each["word_error_rate"]),
                    each["word_error_rate_interval"],
                ),
                words,
            ]
        )
    return format_markdown(rows)


def format_sweep(sweep, chosen):
    """Returns the cell of what was reached at several numbers of epochs.

    Args:
        sweep: Dict from numbers of epochs, as JSON has them, to shares.
        chosen: The number that was chosen. It is marked if it is the smallest
            or the largest, beyond which there may be a better one.
    """
    ends = {min(map(int, sweep)): "smallest", max(map(int, sweep)): "largest"}
    cells = []
    for epochs, share in sweep.items():
        mark = ""
        if int(epochs) == chosen:
            mark = ", chosen"
            if chosen in ends:
                mark += f", the {ends[chosen]}"
        cells.append(f"{100 * share:.1f} ({epochs}{mark})")
    return ", ".join(cells)


def format_mean(values, form="{:.1f}"):
    """Returns the cell of a mean, the smallest and the largest, in percent."""
    mean, low, high = (
        form.format(100 * each)
        for each in (np.mean(values), min(values), max(values))
    )
    return mean if len(values) == 1 else f"{mean} [{low}, {high}]"


def format_by_seed(values, form="{:.1f}"):
    """Returns the cell of what each seed gives, in percent."""
    return ", ".join(form.format(100 * each) for each in values)


def describe_decoders(systems):
    """Returns sentences on whether decoders were tuned widely enough.

    Args:
        systems: Dict from names to what `scores.describe` returns.
    """
    counts = [len(each["decoders"]) for each in systems.values()]
    edge = sum(each["on_the_edge"] for each in systems.values())
    scales, *_ = (each["tried"] for each in systems.values())
    tried = np.average(
        [[*each["tried"].values()] for each in systems.values()],
        axis=0,
        weights=counts,
    )
    cells = (
        f"{100 * rate:.1f} ({scale})"
        for scale, rate in zip(scales, tried, strict=True)
    )
    return (
        f"Of {sum(counts)} decoders, {edge} have a scale or a penalty that is "
        "the smallest or the largest that was tried. Word errors on "
        "development strings with the best penalty for each scale, in percent: "
        f"{', '.join(cells)}."
    )


def format_interval(mean, interval, form="{:.1f}"):
    """Returns the cell of a mean and its interval, in percent."""
    low, high = (form.format(100 * end) for end in interval)
    return f"{form.format(100 * mean)} ({low} to {high})"

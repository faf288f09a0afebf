"""Tables that several experiments have."""

import numpy as np

from keras_distill.tables import format_markdown
from keras_distill.tables import format_range


def format_systems(systems, paper):
    """Returns a table of systems in Markdown.

    Args:
        systems: Dict from names to what `scores.describe` returns.
        paper: Dict from names to the paper's shares of test frames and word
            error rates, in percent, or `None`.
    """
    rows = [
        [
            "system",
            "training frames",
            "development",
            "test",
            "paper",
            "word error rate",
            "paper",
        ]
    ]
    for name, each in systems.items():
        frames, words = paper.get(name, (None, None))
        rows.append(
            [
                name,
                *(
                    format_range([100 * share for share in each[key]], "{:.1f}")
                    for key in ("train", "development", "frames")
                ),
                "" if frames is None else str(frames),
                format_interval(
                    np.mean(each["word_error_rate"]),
                    each["word_error_rate_interval"],
                ),
                "" if words is None else str(words),
            ]
        )
    return format_markdown(rows)


def format_interval(mean, interval, form="{:.1f}"):
    """Returns the cell of a mean and its interval, in percent."""
    low, high = (form.format(100 * end) for end in interval)
    return f"{form.format(100 * mean)} ({low} to {high})"

"""What the pages of experiments say of their commands."""

import json
import pathlib
import statistics

import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "tasks"), [("mnist", "networks"), ("speech", "steps")]
)
def test_a_page_says_how_long_it_took(name, tasks):
    """Two at a time, as there are two cores."""
    text = (DOCS / f"{name}.md").read_text().replace("\n", " ")
    time = json.loads((DOCS / name / "results.json").read_text())["time"]
    assert (
        f"The {time['tasks']} {tasks} took {time['minutes']:.0f} minutes, "
        f"{time['minutes'] / 2:.0f} on two cores" in text
    )


def test_the_page_on_mnist_says_what_came_out_before():
    text = (DOCS / "mnist.md").read_text().replace("\n", " ")
    first, second = json.loads((DOCS / "mnist" / "former.json").read_text())
    shown = json.loads((DOCS / "mnist" / "results.json").read_text())
    assert first["settings"] == second["settings"] != shown["settings"]
    assert first["seeds"] == second["seeds"] == shown["seeds"]
    assert list(first["errors"]) == list(
        shown["experiments"]["errors"]["models"]
    )
    for run, sentence in (
        (first, "medians of {} and {} errors on one machine"),
        (second, "with the same seeds {} and {} on another"),
    ):
        *others, last = (
            f"{statistics.median(each):.0f}" for each in run["errors"].values()
        )
        assert sentence.format(", ".join(others), last) in text

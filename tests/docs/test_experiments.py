"""What the pages of experiments say of their commands."""

import json
import pathlib
import re
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
    former = json.loads((DOCS / "mnist" / "former.json").read_text())
    shown = json.loads((DOCS / "mnist" / "results.json").read_text())
    begun, first, second = (each["settings"] for each in former)
    assert begun != first == second != shown["settings"]
    names = list(shown["experiments"]["errors"]["models"])
    for run, sentence in zip(
        former,
        (
            "medians of {} and {} errors. Then",
            "medians of {} and {} errors on one machine",
            "with the same seeds {} and {} on another",
        ),
        strict=True,
    ):
        assert run["seeds"] == shown["seeds"]
        assert list(run["errors"]) == names
        *others, last = (
            f"{statistics.median(each):.0f}" for each in run["errors"].values()
        )
        assert sentence.format(", ".join(others), last) in text


def test_the_page_on_mnist_says_what_is_short():
    text = " ".join((DOCS / "mnist.md").read_text().split())
    shown = json.loads((DOCS / "mnist" / "results.json").read_text())
    teachers, soft, soft_jitter = (
        shown["experiments"]["errors"]["models"][name]["errors"]
        for name in (
            "teacher",
            "student, distilled",
            "student, distilled, jitter",
        )
    )
    for found, bound in ((soft, 74), (soft_jitter, 60)):
        excess = statistics.median(found) - bound
        assert re.search(
            rf"by {excess:.0f}, above (the paper's )?{bound}", text
        )
    pairs = ", ".join(
        f"{student} and {teacher}"
        for student, teacher in zip(soft_jitter, teachers, strict=True)
    )
    assert f"with the three seeds above {pairs}." in text

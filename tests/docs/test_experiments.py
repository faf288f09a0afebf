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


def test_the_page_on_mnist_says_what_came_out_once_more():
    text = (DOCS / "mnist.md").read_text().replace("\n", " ")
    again = json.loads((DOCS / "mnist" / "again.json").read_text())
    shown = json.loads((DOCS / "mnist" / "results.json").read_text())
    for part in ("command", "seeds", "images", "settings", "versions"):
        assert again[part] == shown[part]
    minutes = again["time"]["minutes"]
    assert f"{minutes:.0f} minutes, {minutes / 2:.0f} on two cores" in text
    errors = {
        name: each["errors"]
        for name, each in again["experiments"]["errors"]["models"].items()
    }
    *first, last = (
        f"{statistics.median(each):.0f}" for each in errors.values()
    )
    assert f"medians of {', '.join(first)} and {last} errors" in text
    teachers, soft, soft_jitter = (
        f"{min(errors[name])} to {max(errors[name])}"
        for name in (
            "teacher",
            "student, distilled",
            "student, distilled, jitter",
        )
    )
    assert f"teachers made {teachers} errors" in text
    assert f"distilled students {soft} and {soft_jitter}." in text
    ours, theirs = (
        each["experiments"]["gradients"]["variance"][
            "after 100 steps with labels"
        ]["labels"]
        for each in (shown, again)
    )
    for seed, other in zip(ours, theirs, strict=True):
        assert seed == pytest.approx(other, rel=1.5e-3)

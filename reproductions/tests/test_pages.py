"""What the pages of experiments say of their commands."""

import json
import pathlib
import re
import statistics

import pytest

REPRODUCTIONS = pathlib.Path(__file__).parents[1]
DOCS = REPRODUCTIONS.parent / "docs"


def load_page(name):
    """Returns the text of a page of the site, without line breaks."""
    return " ".join((DOCS / f"{name}.md").read_text().split())


def load_results(name, file="results.json"):
    """Returns the content of a file of results."""
    return json.loads((REPRODUCTIONS / name / "results" / file).read_text())


@pytest.mark.parametrize(
    ("name", "tasks"), [("mnist", "networks"), ("speech", "steps")]
)
def test_page_and_readme_say_how_long_it_took(name, tasks):
    """Two tasks run at a time, on two cores."""
    time = load_results(name)["time"]
    on_two_cores = f"{time['minutes'] / 2:.0f}"
    assert (
        f"The {time['tasks']} {tasks} took {time['minutes']:.0f} minutes of "
        f"computing, which is {on_two_cores} minutes on two cores"
        in load_page(name)
    )
    readme = (REPRODUCTIONS / "README.md").read_text()
    assert re.search(
        rf"\| `make {name}` \| .* \| {on_two_cores} minutes \|", readme
    )


def test_the_page_on_mnist_says_what_came_out_before():
    text = load_page("mnist")
    former = load_results("mnist", "former.json")
    shown = load_results("mnist")
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
    text = load_page("mnist")
    shown = load_results("mnist")
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

"""What the pages of experiments say of their commands."""

import json
import pathlib

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

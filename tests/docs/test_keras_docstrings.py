"""Docstrings in Keras's form become reStructuredText."""

import importlib.util
import pathlib
import textwrap

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "_extensions"


@pytest.fixture
def convert():
    path = FOLDER / "keras_docstrings.py"
    spec = importlib.util.spec_from_file_location("keras_docstrings", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def convert(docstring, **options):
        lines = textwrap.dedent(docstring).strip("\n").split("\n")
        return "\n".join(module.convert(lines, **options))

    return convert


def test_names(convert):
    assert convert("Sets `x` and ``y``.") == "Sets ``x`` and ``y``."


def test_a_name_of_two_lines(convert):
    assert convert("Sets `x =\n1`.") == "Sets ``x =\n1``."


def test_a_letter_behind_a_name(convert):
    assert convert("Two `Model`s.") == "Two ``Model``\\ s."


def test_a_lost_backtick_stays_in_its_paragraph(convert):
    assert convert("A ` here.\n\nSets `x`.") == "A ` here.\n\nSets ``x``."


def test_links_to_names(convert):
    converted = convert(
        "See `Ensemble`.", references={"Ensemble": "a.Ensemble"}
    )
    assert converted == "See :py:obj:`Ensemble <a.Ensemble>`."


def test_links(convert):
    assert convert("See [this](https://a.b/c).") == (
        "See `this <https://a.b/c>`__."
    )


def test_fences(convert):
    converted = convert(
        """
        Before.

        ```python
        x = `y`

        z = 1
        ```

        After `z`.
        """
    )
    assert converted.split("\n") == [
        "Before.",
        "",
        "",
        ".. code-block:: python",
        "",
        "    x = `y`",
        "",
        "    z = 1",
        "",
        "",
        "After ``z``.",
    ]


def test_a_fence_inside_of_a_section(convert):
    converted = convert("Example:\n    ```\n    x\n    ```")
    assert "Example:\n\n    .. code-block:: text\n\n        x" in converted


def test_example_above_text_that_is_not_indented(convert):
    converted = convert("Example:\n\n```python\nx\n```")
    assert converted.startswith(".. rubric:: Example\n")


def test_formulas(convert):
    converted = convert(
        """
        It is, with `q`:

            T * (q - p)

        and no more.
        """
    )
    assert converted.split("\n") == [
        "It is, with ``q``:",
        "",
        "::",
        "",
        "    T * (q - p)",
        "",
        "",
        "and no more.",
    ]


def test_entries_of_arguments_are_no_formulas(convert):
    docstring = "Args:\n    x: One.\n\n        More.\n\n    y: Two."
    assert convert(docstring) == docstring


@pytest.mark.parametrize("value", ["A dict: `x`.", "A dict:"])
def test_a_colon_in_what_is_returned_is_no_type(convert, value):
    converted = convert(f"Returns:\n    {value}")
    assert converted == "Returns:\n    : " + value.replace("`", "``")

"""Turns docstrings in Keras's form into reStructuredText.

Keras writes Markdown: fences around code, one backtick around names, formulas
as indented paragraphs. Google sections (`Args:`, `Returns:`) are left to
napoleon, which has to run after this extension.
"""

import re

_FENCE = re.compile(r"(\s*)```\s*(\w*)$")
_SECTION = re.compile(r"\s*[A-Z][A-Za-z ]*:$")
# Their entries are indented, and what follows an entry is no formula.
_SECTIONS_OF_ENTRIES = {
    "Args:",
    "Arguments:",
    "Attributes:",
    "Call arguments:",
    "Raises:",
}
# Napoleon takes what is in front of a colon for a type, as it does in the first
# line of a property. A colon in front of all leaves nothing to take.
_SECTIONS_OF_A_VALUE = {"Returns:", "Yields:"}
_EXAMPLE = re.compile(r"(Examples?):$")
_NAME = re.compile(r"(?<!`)`([^`]+)`(?!`)(?=(\w)?)")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")
_FORMULA_INDENT = 4


def convert(lines, references=None):
    """Converts the lines of one docstring.

    Args:
        lines: List of strings, without the indentation of the whole.
        references: Dict from a name between backticks to the full name that
            it links to. Defaults to `None`: no links.

    Returns:
        List of strings.
    """
    converted = []
    for is_prose, block in _split(_mark_examples(lines)):
        converted += (
            _convert_prose(block, references or {}) if is_prose else block
        )
    return converted


def _mark_examples(lines):
    """Makes a heading of `Example:` with unindented text below it.

    Such a section is none to napoleon.
    """
    marked = []
    for number, line in enumerate(lines):
        below = next((line for line in lines[number + 1 :] if line.strip()), "")
        if _EXAMPLE.match(line) and not _indent(below):
            line = _EXAMPLE.sub(r".. rubric:: \1", line)
        marked.append(line)
    return marked


def _split(lines):
    """Yields `(True, prose)` and `(False, code in reStructuredText)`."""
    prose = []
    entries = False
    position = 0
    while position < len(lines):
        line = lines[position]
        end = position + 1
        fence = _FENCE.match(line)
        if fence:
            while end < len(lines) and lines[end].strip() != "```":
                end += 1
            code = _make_code(fence, lines[position + 1 : end])
            end += 1
        elif not entries and _begins_formula(line, prose):
            while end < len(lines) and (
                not lines[end].strip() or _indent(lines[end]) >= _indent(line)
            ):
                end += 1
            # A paragraph of two colons makes what follows literal.
            colons = " " * _indent(prose[-2]) + "::"
            code = [colons, "", *lines[position:end], ""]
        else:
            if prose and prose[-1].strip() in _SECTIONS_OF_A_VALUE:
                line = f"{' ' * _indent(line)}: {line.strip()}"
            elif _SECTION.match(line):
                entries = line.strip() in _SECTIONS_OF_ENTRIES
            prose.append(line)
            code = None
        if code is not None:
            yield True, prose
            yield False, code
            prose = []
        position = end
    yield True, prose


def _begins_formula(line, prose):
    """Whether a line is further in than the paragraph in front of it."""
    return (
        bool(line.strip())
        and len(prose) > 1
        and not prose[-1].strip()
        and bool(prose[-2].strip())
        and _indent(line) >= _indent(prose[-2]) + _FORMULA_INDENT
    )


def _make_code(fence, code):
    indent, language = fence.groups()
    return [
        "",
        f"{indent}.. code-block:: {language or 'text'}",
        "",
        *(f"    {line}" if line.strip() else "" for line in code),
        "",
    ]


def _convert_prose(lines, references):
    def quote(match):
        name, letter_behind = match.groups()
        target = references.get(name)
        quoted = f":py:obj:`{name} <{target}>`" if target else f"``{name}``"
        # As in `Model`s, where the end would not be seen.
        return quoted + "\\ " * bool(letter_behind)

    # A paragraph at a time, so that a lost backtick does no more harm.
    return "\n\n".join(
        _LINK.sub(r"`\1 <\2>`__", _NAME.sub(quote, paragraph))
        for paragraph in "\n".join(lines).split("\n\n")
    ).split("\n")


def _indent(line):
    return len(line) - len(line.lstrip())


def _process(app, what, name, obj, options, lines):
    # What links to itself is only in bold.
    references = {
        written: full
        for written, full in app.config.docstring_references.items()
        if full != name
    }
    lines[:] = convert(lines, references)
    if what == "property":
        lines[0] = f": {lines[0]}"


def setup(app):
    """Registers the conversion with Sphinx."""
    app.add_config_value("docstring_references", {}, "env")
    # Smaller priorities run first. Napoleon has 500.
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}

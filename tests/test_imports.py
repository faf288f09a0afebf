"""Imports of modules run downwards: there is no circle."""

import ast
import pathlib

import keras_distill

PACKAGE = pathlib.Path(keras_distill.__file__).parent


def find_imports():
    """Returns the modules of the package that each module imports."""
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        modules[".".join(parts)] = path
    imports = {}
    for name, path in modules.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    imported |= {full, node.module} & set(modules)
        # A package that is imported for one of its modules does not count.
        imports[name] = {
            each
            for each in imported
            if not any(other.startswith(each + ".") for other in imported)
        } - {name}
    return imports


def find_circle(imports):
    """Returns the modules of a circle, or an empty list."""
    done = set()

    def visit(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for each in sorted(imports[name]):
            circle = visit(each, [*path, name])
            if circle:
                return circle
        done.add(name)
        return []

    for name in imports:
        circle = visit(name, [])
        if circle:
            return circle
    return []


def test_there_is_no_circle():
    assert find_circle(find_imports()) == []


def test_a_circle_would_be_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == list("abca")


def test_no_file_is_long():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > 500} == {}

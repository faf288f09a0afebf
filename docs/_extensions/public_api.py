"""Documents what a module's `__all__` names, and forgets nothing.

    ```{public-api} keras_distill
    :names: Distiller
    ```

puts the documentation of these names there, or that of the whole `__all__`.

    ```{public-api-table} keras_distill
    ```

lists all of them, those of the public modules too, each with a link. A name
that no page documents is a link to nowhere, which stops the build. So a name
that `:names:` has and the module does not is left out without a word.
"""

import importlib.util
import inspect
import sys
import types

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

_PACKAGE = "keras_distill"
# Methods with special names that are a way to use the object.
_SPECIAL = {"__getitem__", "__len__"}


class PublicApi(SphinxDirective):
    """The directive `public-api`."""

    required_arguments = 1
    option_spec = {"names": directives.unchanged_required}  # noqa: RUF012

    def run(self):
        """Returns the documentation of each name."""
        module = self.arguments[0]
        if importlib.util.find_spec(module) is None:
            return []
        names = list_public(module)
        if "names" in self.options:
            chosen = self.options["names"].split()
            names = [name for name in chosen if name in names]
        lines = []
        for name in names:
            lines += _document(module, name)
        return _parse(self, lines)


class PublicApiTable(SphinxDirective):
    """The directive `public-api-table`."""

    required_arguments = 1

    def run(self):
        """Returns a table of names and what they are."""
        lines = [".. list-table::", "   :widths: 40 60", ""]
        for module in [self.arguments[0], *list_modules(self.arguments[0])]:
            within = module.partition(".")[2]
            for name in list_public(module):
                summary = _summarize(getattr(sys.modules[module], name))
                written = f"{within}.{name}" if within else name
                lines += [
                    f"   * - :py:obj:`{written} <{module}.{name}>`",
                    f"     - {summary}",
                ]
        return _parse(self, lines)


def list_modules(package):
    """Lists the full names of the public modules of a package."""
    loaded = importlib.import_module(package)
    return [
        f"{package}.{name}"
        for name in loaded.__all__
        if isinstance(getattr(loaded, name), types.ModuleType)
    ]


def list_public(module):
    """Lists the public names of a module that are no modules or versions."""
    loaded = importlib.import_module(module)
    return [
        name
        for name in loaded.__all__
        if not name.startswith("_")
        and not isinstance(getattr(loaded, name), types.ModuleType)
    ]


def list_references(package):
    """Maps names as docstrings write them to the names that they link to."""
    references = {}
    for module in [package, *list_modules(package)]:
        for name in list_public(module):
            full = f"{module}.{name}"
            references[full] = full
            # One small word may well be a method: `compare`, `get`.
            if "_" in name or not name.islower():
                references[name] = full
    return references


def _parse(directive, lines):
    """Returns the nodes of reStructuredText in a page of Markdown."""
    source, _ = directive.get_source_info()
    fenced = ["````{eval-rst}", *lines, "````"]
    node = nodes.section()
    node.document = directive.state.document
    directive.state.nested_parse(StringList(fenced, source=source), 0, node)
    return node.children


def _document(module, name):
    documented = getattr(importlib.import_module(module), name)
    if not inspect.isclass(documented):
        return [f".. autofunction:: {module}.{name}", ""]
    members = _list_members(documented)
    # Without any, the option would mean all of them.
    options = [f"   :members: {', '.join(members)}"] if members else []
    return [f".. autoclass:: {module}.{name}", *options, ""]


def _list_members(documented):
    """Lists what a class and its bases in this package define and describe.

    What it has from Keras is Keras's to document.
    """
    return list(
        dict.fromkeys(
            name
            for base in documented.__mro__
            if base.__module__.partition(".")[0] == _PACKAGE
            for name, member in vars(base).items()
            if _is_documented(name, member)
        )
    )


def _is_documented(name, member):
    """Whether a member is one to read about."""
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if isinstance(member, property):
        member = member.fget
    public = not name.startswith("_") or name in _SPECIAL
    return public and inspect.isfunction(member) and bool(member.__doc__)


def _summarize(documented):
    summary = inspect.getdoc(documented).split("\n\n")[0].replace("\n", " ")
    return summary.replace("`", "``")


def _use_signature_of_init(
    app, what, name, obj, options, signature, return_annotation
):
    # Keras's classes have a `__new__` that takes anything.
    if what != "class" or issubclass(obj, tuple):
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    return str(inspect.Signature(parameters)), return_annotation


def setup(app):
    """Registers the directives with Sphinx."""
    app.add_directive("public-api", PublicApi)
    app.add_directive("public-api-table", PublicApiTable)
    app.config.docstring_references = list_references(_PACKAGE)
    app.connect("autodoc-process-signature", _use_signature_of_init)
    return {"parallel_read_safe": True}

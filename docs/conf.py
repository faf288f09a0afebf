"""How Sphinx builds this documentation: `make docs`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_extensions"))

from keras_distill.version import __version__

project = "keras_distill"
author = "The keras_distill authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    # Ours, in _extensions/. The first has to see a docstring before napoleon.
    "keras_docstrings",
    "public_api",
]
exclude_patterns = ["_extensions", "_static"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Keras's own docstrings describe Keras.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call arguments", "params_style")]
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
# Names of Keras, TensorFlow and Python have no page here. Ours must.
nitpick_ignore_regex = [("py:.*", r"(?!keras_distill\b).*")]

# Formulas are blocks without a language.
highlight_language = "none"
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = "keras_distill"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

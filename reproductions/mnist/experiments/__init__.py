"""The experiments of the paper's section 3, a module each.

Each has a `TITLE`, and three functions:

    plan(study)              the list of `Run`s that it needs
    measure(study)           a dict of what came out, for `results.json`
    show(results, folder)    tables in Markdown; draws its figures there
"""

from reproductions.mnist.experiments import errors
from reproductions.mnist.experiments import fractions
from reproductions.mnist.experiments import gradients
from reproductions.mnist.experiments import logit_matching
from reproductions.mnist.experiments import missing_classes
from reproductions.mnist.experiments import search
from reproductions.mnist.experiments import temperatures

ALL = {
    "errors": errors,
    "missing-classes": missing_classes,
    "temperatures": temperatures,
    "logit-matching": logit_matching,
    "fractions": fractions,
    "gradients": gradients,
}

# Not of the paper, and for validation images only.
SEARCH = {"search": search}

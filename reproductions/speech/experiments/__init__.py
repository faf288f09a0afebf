"""The experiments on speech, a module each.

Each has a `TITLE`, and functions:

    plan(study)                   what has to be computed first, tasks
    plan_judgements(study)        what then, of what was chosen
    measure(study)                a dict of what came out
    show(results, folder)         tables in Markdown; draws its figures there
"""

from reproductions.speech.experiments import align
from reproductions.speech.experiments import ensemble
from reproductions.speech.experiments import search
from reproductions.speech.experiments import small_data

ALL = {"align": align, "ensemble": ensemble, "small-data": small_data}
# Not among those that are run by default.
SEARCH = {"search": search}

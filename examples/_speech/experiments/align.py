"""The alignment, and the strings that it labels."""

import numpy as np

from _speech.alignment import SILENCE
from keras_distill.tables import format_markdown

TITLE = "Data"

PARTS = ("train", "development", "test")


def plan(study):
    """Returns the list of tasks to do first."""
    return [study.plan_train(), *map(study.plan_copies, PARTS[1:])]


def measure(study):
    """Returns what came out, as a dict."""
    found = {}
    for part, copies in zip(PARTS, plan(study), strict=True):
        strings = copies.load(study.root)
        found[part] = {
            "copies": copies.count,
            "recordings": len({p for each in strings.spoken for p in each}),
            "words": sum(map(len, strings.words)),
            "frames": len(strings.labels),
            "silence": float(np.mean(strings.labels == SILENCE)),
        }
    return found


def show(results, folder):
    """Returns the table in Markdown."""
    return format_markdown(
        [
            ["", "copies", "recordings", "words", "frames", "silence in %"],
            *(
                [
                    part,
                    str(each["copies"]),
                    f"{each['recordings']:,}",
                    f"{each['words']:,}",
                    f"{each['frames']:,}",
                    f"{100 * each['silence']:.1f}",
                ]
                for part, each in results.items()
            ),
        ]
    )

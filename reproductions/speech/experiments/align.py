"""The alignment, and the strings that it labels."""

import numpy as np

from keras_distill.evaluation.tables import format_markdown
from reproductions.speech.alignment import SILENCE
from reproductions.speech.alignment import STATES

TITLE = "Data"


def plan(study):
    """Returns the list of tasks to do first."""
    return [study.plan_train(), study.development, study.test]


def plan_judgements(study):
    """Returns the list of tasks to do then: none."""
    return []


def measure(study):
    """Returns what came out, as a dict."""
    lasting = [
        np.bincount(each, minlength=STATES)[:SILENCE]
        for each in study.alignment.load(study.root)
    ]
    lasting = np.concatenate([each[each > 0] for each in lasting])
    return {
        "changed": study.alignment.load_changed(study.root),
        "frames_in_state": np.quantile(lasting, [0.05, 0.5, 0.95]).tolist(),
        "parts": {
            each.part: _describe(each, each.load(study.root))
            for each in plan(study)
        },
    }


def show(results, folder):
    """Returns the table in Markdown."""
    low, middle, high = results["frames_in_state"]
    changed = ", ".join(f"{100 * each:.1f}" for each in results["changed"])
    table = format_markdown(
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
                for part, each in results["parts"].items()
            ),
        ]
    )
    return (
        f"{table}\n\nA state of a word lasts {middle:.0f} frames (median; 5 % "
        f"last {low:.0f} or fewer and 5 % {high:.0f} or more). Frames that got "
        f"another state in the rounds of the alignment, in percent: {changed}."
    )


def _describe(copies, strings):
    """Returns how much there is of a part of the data."""
    return {
        "copies": copies.count,
        "recordings": len({p for each in strings.spoken for p in each}),
        "words": sum(map(len, strings.words)),
        "frames": len(strings.labels),
        "silence": float(np.mean(strings.labels == SILENCE)),
    }

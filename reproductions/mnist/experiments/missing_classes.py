"""Students that never see some classes, and the biases that make up for it."""

import numpy as np
from scipy.special import softmax

import keras_distill
from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist import data
from reproductions.mnist.study import SOFT

TITLE = "Classes that are missing from the transfer set"

# Classes in the transfer set, those whose biases are shifted, and by how much
# the paper shifts them.
CASES = {
    "without 3": ((0, 1, 2, 4, 5, 6, 7, 8, 9), (3,), 3.5),
    "only 7 and 8": ((7, 8), (7, 8), -7.6),
}
# How the biases are set: not at all, as in the paper, and without labels.
TRAINED = "as trained"
PAPER = "biases shifted by what the paper shifts them"
TUNED = "biases tuned on the images judged on"
TEACHER = "biases matched to what the teacher says"
MATCHED = "biases matched to the frequencies of the classes"
UNIFORM = "biases matched to equal frequencies"

# The shifts that are tried on the images that the student is judged on.
_GRID = np.arange(0, 40, 0.1)


def plan(study):
    """Returns the list of `Run`s that this experiment needs."""
    return [_plan(study, seed, case) for case in CASES for seed in study.seeds]


def measure(study):
    """Returns what came out, as a dict."""
    return {
        case: [_measure(study, seed, case) for seed in study.seeds]
        for case in CASES
    }


def show(results, folder):
    """Returns the table in Markdown."""
    rows = [
        [
            "transfer set",
            "biases",
            "shift",
            "errors",
            "seen classes right in %",
            "others right in %",
        ]
    ]
    for case, seeds in results.items():
        for way in seeds[0]:
            rows.append(
                [
                    case,
                    way,
                    format_range(
                        [each[way]["shift"] for each in seeds], "{:+.1f}"
                    ),
                    format_range(
                        [each[way]["errors"] for each in seeds], "{:,.0f}"
                    ),
                    format_range(
                        [each[way]["seen"] for each in seeds], "{:.1f}"
                    ),
                    format_range(
                        [each[way]["unseen"] for each in seeds], "{:.1f}"
                    ),
                ]
            )
    return format_markdown(rows)


def _plan(study, seed, case):
    seen, _, _ = CASES[case]
    return study.plan_student(
        seed, f"{SOFT}, {case}", study.scale.missing, classes=seen
    )


def _measure(study, seed, case):
    """Returns a dict from ways to set the biases to what they give."""
    seen, shifted, shift = CASES[case]
    run = _plan(study, seed, case)
    student = run.load(study.root)
    logits = _predict(student, study.judged_images)
    paper = np.zeros(data.CLASSES)
    paper[list(shifted)] = shift
    teacher, matched, uniform = (
        _match(student, study, prior, shifted)
        for prior in (_average_teacher(run, study), study.prior, None)
    )
    return {
        way: {
            "shift": float(np.mean(shifts[list(shifted)])),
            "shifts": shifts.tolist(),
            **_judge(student, shifts, seen, study),
        }
        for way, shifts in {
            TRAINED: np.zeros(data.CLASSES),
            PAPER: paper,
            TUNED: _tune(logits, study.judged.labels, np.sign(paper)),
            TEACHER: teacher,
            MATCHED: matched,
            UNIFORM: uniform,
        }.items()
    }


def _judge(student, shifts, seen, study):
    """Returns what a student with other biases gets right."""
    model = keras_distill.calibration.shift_class_bias(student, shifts)
    classes = _predict(model, study.judged_images).argmax(axis=-1)
    right = classes == study.judged.labels
    was_seen = np.isin(study.judged.labels, seen)
    return {
        "count": len(right),
        "errors": int(np.sum(~right)),
        "unseen_errors": int(np.sum(~right[~was_seen])),
        "seen": 100 * float(np.mean(right[was_seen])),
        "unseen": 100 * float(np.mean(right[~was_seen])),
    }


def _tune(logits, labels, direction):
    """Returns the shift with the fewest errors: the paper's way."""
    errors = [
        np.sum((logits + shift * direction).argmax(axis=-1) != labels)
        for shift in _GRID
    ]
    best = np.flatnonzero(errors == np.min(errors))
    # Of several that are equally good, one in the middle.
    return _GRID[best[len(best) // 2]] * direction


def _average_teacher(run, study):
    """Returns the teacher's mean probabilities on all training images."""
    (teacher,) = run.teachers
    logits = teacher.load_soft_targets(study.root)[data.NO_SHIFT]
    return softmax(np.float64(logits), axis=-1).mean(axis=0)


def _match(student, study, prior, shifted):
    """Returns the shifts that no label of an image is needed for.

    They come from all training images, also of classes that the student has
    not seen.
    """
    shifts = keras_distill.calibration.match_class_prior(
        student,
        data.scale(study.train.images),
        prior,
        batch_size=1000,
        verbose=0,
    )
    # Only differences count: what the other classes have is taken off.
    others = np.setdiff1d(np.arange(data.CLASSES), shifted)
    return shifts - np.median(shifts[others])


def _predict(model, images):
    return np.float64(
        keras_distill.predict_logits(model, images, 1000, verbose=0)
    )

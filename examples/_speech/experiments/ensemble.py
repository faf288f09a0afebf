"""An ensemble, and the single network that takes its place (section 4)."""

import numpy as np

import keras_distill
from keras_distill.tables import format_markdown
from keras_distill.tables import format_range

TITLE = "An ensemble into one network"

BASELINE = "baseline"
ENSEMBLE = "ensemble"
STUDENT = "student, distilled"
CONTROL = "student, labels, best number of epochs"

# Of the hard controls, times those of a baseline. The largest is a student's.
_EPOCHS = (1, 2, 3)


def plan(study):
    """Returns the list of tasks to do first: all that is chosen from."""
    return [
        study.plan_copies("test"),
        *(each for seed in _seeds(study) for each in study.plan_members(seed)),
        *_plan_students(study, 0).values(),
        *_plan_controls(study, 0).values(),
    ]


def plan_chosen(study):
    """Returns the list of tasks with the settings that were chosen."""
    return [
        each
        for seed in _seeds(study)
        for each in (_plan_student(study, seed), _plan_control(study, seed))
    ]


def measure(study):
    """Returns what came out, as a dict."""
    root = study.root
    systems = {BASELINE: [], ENSEMBLE: [], STUDENT: [], CONTROL: []}
    for seed in _seeds(study):
        members = [each.load(root) for each in study.plan_members(seed)]
        # Of each ensemble all members have their frames counted.
        systems[BASELINE].append(
            {
                **study.judge(members[0]),
                "frames": float(
                    np.mean(
                        [
                            study.measure_frames(
                                study.predict(each, "test"), "test"
                            )
                            for each in members
                        ]
                    )
                ),
            }
        )
        systems[ENSEMBLE].append(study.judge(keras_distill.Ensemble(members)))
        systems[STUDENT].append(
            study.judge(_plan_student(study, seed).load(root))
        )
        systems[CONTROL].append(
            study.judge(_plan_control(study, seed).load(root))
        )
    own, all_, student = (
        np.array([each["frames"] for each in systems[name]])
        for name in (BASELINE, ENSEMBLE, STUDENT)
    )
    return {
        "systems": systems,
        "gain_kept": (100 * (student - own) / (all_ - own)).tolist(),
        "chosen": {
            "temperature": _choose_student(study)[0],
            "hard_weight": _choose_student(study)[1],
            "control_epochs": _choose_control(study) * study.scale.epochs,
        },
        "development": {
            "students": {
                f"T = {t:g}, hard loss {weight:g}": _last_accuracy(each, root)
                for (t, weight), each in _plan_students(study, 0).items()
            },
            "controls": {
                f"{times * study.scale.epochs} epochs": _last_accuracy(
                    each, root
                )
                for times, each in _plan_controls(study, 0).items()
            },
        },
    }


def show(results, folder):
    """Returns the tables in Markdown."""
    rows = [["system", "frames right in %", "word error rate in %"]]
    for name, seeds in results["systems"].items():
        low, high = seeds[0]["word_error_rate_interval"]
        rows.append(
            [
                name,
                format_range(
                    [100 * each["frames"] for each in seeds], "{:.2f}"
                ),
                format_range(
                    [100 * each["word_error_rate"] for each in seeds], "{:.1f}"
                )
                + f" ({100 * low:.1f} to {100 * high:.1f})",
            ]
        )
    choices = [["on the development strings", "frames right in %"]]
    for each in results["development"].values():
        choices += [[name, f"{100 * a:.2f}"] for name, a in each.items()]
    kept = format_range(results["gain_kept"], "{:.0f}")
    return (
        f"{format_markdown(rows)}\n\n"
        f"Of the gain of the ensemble the student keeps {kept} %.\n\n"
        f"{format_markdown(choices)}"
    )


def _seeds(study):
    return range(study.scale.seeds)


def _plan_students(study, seed):
    """Returns a dict from temperature and hard weight to a student."""
    scale = study.scale
    return {
        (t, weight): study.plan_model(
            STUDENT,
            seed,
            study.plan_train(),
            scale.epochs * scale.patience,
            soft_targets=study.plan_soft_targets(
                study.plan_members(seed), study.plan_train(), t
            ),
            hard_weight=weight,
        )
        for t in scale.temperatures
        for weight in scale.hard_weights
    }


def _plan_controls(study, seed):
    """Returns a dict from epochs to a network that learns from labels."""
    return {
        times: study.plan_model(
            CONTROL, seed, study.plan_train(), study.scale.epochs * times
        )
        for times in sorted({*_EPOCHS, study.scale.patience})
    }


def _choose_student(study):
    """Returns the temperature and hard weight of the best student."""
    return _choose(_plan_students(study, 0), study.root)


def _choose_control(study):
    """Returns the epochs of the best control, in those of a baseline."""
    return _choose(_plan_controls(study, 0), study.root)


def _choose(planned, root):
    """Returns the setting that is best on the development strings."""
    return max(planned, key=lambda key: _last_accuracy(planned[key], root))


def _plan_student(study, seed):
    return _plan_students(study, seed)[_choose_student(study)]


def _plan_control(study, seed):
    return _plan_controls(study, seed)[_choose_control(study)]


def _last_accuracy(model, root):
    """Returns the share of development frames right after the last epoch."""
    return model.load_history(root)["val_accuracy"][-1]

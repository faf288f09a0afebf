"""What the paper reports, beside what came out here."""

from keras_distill.evaluation.tables import format_markdown
from keras_distill.evaluation.tables import format_range
from reproductions.mnist.experiments import errors
from reproductions.mnist.experiments import missing_classes
from reproductions.mnist.study import HARD
from reproductions.mnist.study import SOFT
from reproductions.mnist.study import TEACHER


def format_comparison(experiments):
    """Returns a table in Markdown: a row for each figure of the paper.

    Args:
        experiments: Dict of the results of the experiments by their names.
            Those that were not run have no rows.
    """
    rows = [["test errors of 10,000", "paper", "here: median [min, max]"]]
    if "errors" in experiments:
        rows += _compare_errors(experiments["errors"]["models"])
    if "missing-classes" in experiments:
        rows += _compare_missing(experiments["missing-classes"])
    return format_markdown(rows)


def _compare_errors(models):
    papers = {
        TEACHER: "67",
        HARD: "146",
        SOFT: "74",
        errors.HARD_JITTER: "",
        errors.SOFT_JITTER: "",
    }
    return [
        [name, paper, format_range(models[name]["errors"])]
        for name, paper in papers.items()
    ]


def _compare_missing(cases):
    def collect(case, way, field):
        return [seed[way][field] for seed in cases[case]]

    rows = []
    papers = {
        missing_classes.TRAINED: ("206", "133"),
        missing_classes.TUNED: ("109", "14"),
        missing_classes.TEACHER: ("", ""),
        missing_classes.MATCHED: ("", ""),
        missing_classes.UNIFORM: ("", ""),
    }
    for way, (paper, paper_on_threes) in papers.items():
        errors_ = collect("without 3", way, "errors")
        on_threes = collect("without 3", way, "unseen_errors")
        rows += [
            [f"no 3 in the transfer set, {way}", paper, format_range(errors_)],
            [
                "... of them on the 1,010 threes",
                paper_on_threes,
                format_range(on_threes),
            ],
        ]
    papers = {
        missing_classes.TRAINED: "47.3 %",
        missing_classes.TUNED: "13.2 %",
        missing_classes.TEACHER: "",
        missing_classes.MATCHED: "",
        missing_classes.UNIFORM: "",
    }
    for way, paper in papers.items():
        percent = [
            100 * error / seed[way]["count"]
            for error, seed in zip(
                collect("only 7 and 8", way, "errors"),
                cases["only 7 and 8"],
                strict=True,
            )
        ]
        rows.append(
            [
                f"only 7s and 8s in the transfer set, {way}",
                paper,
                f"{format_range(percent, '{:.1f}')} %",
            ]
        )
    return rows

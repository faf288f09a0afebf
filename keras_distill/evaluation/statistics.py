"""Statistics of models that are tested on the same examples."""

import typing

import numpy as np

_CONFIDENCE_LEVEL = 0.95


class McNemarTest(typing.NamedTuple):
    """The result of McNemar's test of two models.

    Args:
        only_first: Number of examples that only the first model gets right.
        only_second: Number of examples that only the second model gets right.
        p_value: The probability of a difference at least this large if both
            models are equally good. The test is exact and two-sided
            (McNemar, 1947).
    """

    only_first: int
    only_second: int
    p_value: float


def run_mcnemar_test(first: np.ndarray, second: np.ndarray) -> McNemarTest:
    """Compares two boolean arrays: which examples each model gets right."""
    from scipy import stats

    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    total = only_first + only_second
    p_value = stats.binomtest(only_first, total).pvalue if total else 1.0
    return McNemarTest(only_first, only_second, float(p_value))


def find_accuracy_interval(correct: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the 95 % confidence interval (Wilson, 1927)."""
    from scipy import stats

    interval = stats.binomtest(int(correct.sum()), len(correct)).proportion_ci(
        _CONFIDENCE_LEVEL, method="wilson"
    )
    return float(interval.low), float(interval.high)

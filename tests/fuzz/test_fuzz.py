"""A fixed set of random cases. `make fuzz` runs more."""

import pytest

import keras_distill
from fuzz import calls
from fuzz import stores
from fuzz import trainings


@pytest.mark.compiled
@pytest.mark.parametrize("seed", [*range(30), 298])
def test_trainings(seed):
    trainings.run(seed)


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_stores(first):
    for seed in range(first, first + 50):
        stores.run(seed)


@pytest.mark.parametrize("first", range(0, 4000, 500))
def test_calls(first):
    for seed in range(first, first + 500):
        calls.run(seed)


def test_every_public_name_is_called():
    names = {
        name
        for name in keras_distill.__all__
        if callable(getattr(keras_distill, name))
    }
    for module in ("losses", "metrics", "plots", "calibration"):
        names |= {
            f"{module}.{name}"
            for name in getattr(keras_distill, module).__all__
        }
    assert names - set(calls.CALLS) == calls.UNCALLED

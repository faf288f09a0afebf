"""Arrays are told apart, whatever is in them."""

import keras
import numpy as np
import pytest

from keras_distill.fingerprints import fingerprint_arrays
from keras_distill.fingerprints import fingerprint_model


def of_strings(*strings):
    return np.array(strings, object)


def of_rows(*rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


LONG = np.arange(2000.0)
CHANGED = np.where(LONG == 1500, -1, LONG)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (of_strings("ab", "c"), of_strings("a", "bc")),
        (of_strings(b"a", ""), of_strings(b"", "a")),
        (of_strings("1", "2"), of_strings(1, 2)),
        (of_rows([1, 2], [3]), of_rows([1], [2, 3])),
        # NumPy writes but the ends of so many.
        (of_rows(LONG, LONG[:9]), of_rows(CHANGED, LONG[:9])),
        (np.array(["a", "b"]), np.array(["a", "c"])),
        (LONG, CHANGED),
        (LONG, LONG.reshape(2, -1)),
        (np.zeros(2, "int32"), np.zeros(2, "float32")),
        ([LONG, CHANGED], [CHANGED, LONG]),
        ({"a": LONG}, {"b": LONG}),
    ],
)
def test_what_differs_has_another_hash(first, second):
    hashes = [fingerprint_arrays(each) for each in (first, second)]
    assert hashes[0] != hashes[1]
    # Nor does the hash depend on where the array is.
    for each, hashed in zip((first, second), hashes, strict=True):
        if isinstance(each, np.ndarray):
            assert fingerprint_arrays(each.copy()) == hashed


def of_function(function):
    return keras.Sequential([keras.Input((3,)), keras.layers.Lambda(function)])


def double(x):
    return 2 * x


def test_functions_are_known_by_what_they_do():
    known = fingerprint_model(of_function(double))

    def rename(function):
        function.__name__ = "double"
        return function

    def times(factor):
        return lambda x: factor * x

    # Another body, constant, default or variable from outside.
    for one, other in (
        (double, rename(lambda x: 3 * x)),
        (double, rename(lambda x: x - 2)),
        (lambda x, by=2: by * x, lambda x, by=3: by * x),
        (times(2), times(3)),
        (lambda x: keras.ops.abs(x), lambda x: keras.ops.exp(x)),
        (lambda x: (lambda z: z + 1)(x), lambda x: (lambda z: z + 2)(x)),
    ):
        hashes = {fingerprint_model(of_function(each)) for each in (one, other)}
        assert len(hashes) == 2
    # But neither a name, nor where it was written.
    same = rename(lambda z: 2 * z)
    assert fingerprint_model(of_function(same)) == known


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 * x,
        lambda x: x * (3 if x.shape[-1] in {1, 3, 5} else 4),
    ],
)
def test_a_function_that_is_loaded_is_the_same(tmp_path, function):
    model = of_function(function)
    known = fingerprint_model(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    assert fingerprint_model(loaded) == known
    # Whoever else holds on to its constants.
    held = [each for each in function.__code__.co_consts]
    assert fingerprint_model(model) == known
    del held

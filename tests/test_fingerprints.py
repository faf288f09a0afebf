"""Arrays are told apart, whatever is in them."""

import numpy as np
import pytest

from keras_distill.fingerprints import fingerprint_arrays


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

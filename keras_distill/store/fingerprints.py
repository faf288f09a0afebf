"""Fingerprints of examples without TensorFlow."""

import keras
import numpy as np


def fingerprint_examples(x):
    """Returns a hash of each example in a batch.

    The lower half of FarmHash's Fingerprint64, which TensorFlow has as an
    operation. It is the same on every platform.

    Args:
        x: Inputs of a batch: arrays of numbers.

    Returns:
        Array of shape `(batch,)` and dtype uint32.

    Raises:
        ImportError: If the package `pyfarmhash` is not installed.
    """
    try:
        import farmhash
    except ImportError:
        raise ImportError(
            "Without TensorFlow, fingerprints of inputs need FarmHash: "
            "`pip install pyfarmhash`."
        ) from None

    def hash_rows(array):
        rows = np.ascontiguousarray(array).reshape(len(array), -1)
        return np.array(
            [farmhash.fingerprint64(row.tobytes()) for row in rows], "uint64"
        )

    hashes = [hash_rows(np.asarray(each)) for each in keras.tree.flatten(x)]
    if len(hashes) > 1:
        hashes = [hash_rows(np.stack(hashes, axis=-1))]
    return hashes[0].astype("uint32")

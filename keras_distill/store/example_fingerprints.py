"""Fingerprints of examples: the lower half of FarmHash's Fingerprint64.

It is the same on every platform, and TensorFlow has it as an operation.
"""

import keras
import numpy as np


def fingerprint_tensors(x):
    """Returns a uint32 hash of each example in a batch of tensors."""
    import tensorflow as tf

    hashes = [tf.fingerprint(tensor) for tensor in keras.tree.flatten(x)]
    if len(hashes) > 1:
        hashes = [tf.fingerprint(tf.concat(hashes, axis=-1))]
    return tf.cast(tf.bitcast(hashes[0], tf.uint64), tf.uint32)


def fingerprint_examples(x):
    """Returns the same for arrays of numbers, without TensorFlow."""
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

    hashes = [hash_rows(np.asarray(array)) for array in keras.tree.flatten(x)]
    if len(hashes) > 1:
        hashes = [hash_rows(np.stack(hashes, axis=-1))]
    return hashes[0].astype("uint32")

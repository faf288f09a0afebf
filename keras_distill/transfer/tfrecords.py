"""TFRecord files: written by TensorFlow, read without it.

A record is its length (8 bytes), a checksum of that (4), the content, and a
checksum of the content (4), all little-endian. Reading leaves both checksums
alone: a store has its own of all that is in a file.
"""

import contextlib
import os

import numpy as np

_LENGTH, _CHECKSUM = 8, 4


class RecordWriter:
    """Writes a file of records.

    Args:
        path: Path of the file.

    Raises:
        OSError: If it can not be written; the methods raise it, too.
    """

    def __init__(self, path):
        # Reading needs none.
        import tensorflow as tf

        self._errors = tf.errors.OpError
        with self._as_os_error():
            self._writer = tf.io.TFRecordWriter(os.fspath(path))

    def write(self, content):
        """Appends a record of bytes."""
        with self._as_os_error():
            self._writer.write(content)

    def close(self):
        """Writes what is still in memory."""
        with self._as_os_error():
            self._writer.close()

    @contextlib.contextmanager
    def _as_os_error(self):
        try:
            yield
        except self._errors as error:
            raise OSError(str(error)) from error


def read_records(path):
    """Returns the content of each record in a file.

    Args:
        path: Path of the file.

    Returns:
        List of `memoryview`.

    Raises:
        OSError: If it can not be read, or ends within a record.
    """
    with open(path, "rb") as file:
        content = memoryview(file.read())
    records = []
    position = 0
    while position < len(content):
        start = position + _LENGTH + _CHECKSUM
        length = content[position : position + _LENGTH]
        stop = start + int.from_bytes(length, "little")
        position = stop + _CHECKSUM
        if position > len(content):
            raise OSError("it ends within a record")
        records.append(content[start:stop])
    return records


def map_records(path, first, content, count):
    """Maps one record or several of the same size into memory.

    Args:
        path: Path of the file.
        first: How many bytes are before them.
        content: NumPy dtype of the content of a record.
        count: Number of records.

    Returns:
        Array of shape `(count,)` and dtype `content`, of which nothing is read
        before it is looked at, and the number of bytes to its end.
    """
    record = np.dtype(
        [
            ("length", f"V{_LENGTH + _CHECKSUM}"),
            ("content", content),
            ("checksum", f"V{_CHECKSUM}"),
        ]
    )
    if not count:
        return np.empty(0, record)["content"], first
    mapped = np.memmap(path, record, "r", first, (count,))
    return mapped["content"], first + mapped.nbytes

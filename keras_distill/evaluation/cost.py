"""The cost of a model: parameters, bytes, MACs and latency."""

import math
import time

import keras
import numpy as np
from keras import ops

from keras_distill.backend import count_macs
from keras_distill.teachers.ensemble import has_known_weights

# Limits for each model and batch size.
_MAX_REPETITIONS = 100
_MIN_REPETITIONS = 5
_MAX_SECONDS = 3.0


def count_parameters(model) -> int | None:
    """Counts all weights. Returns `None` if functions hide some."""
    if not has_known_weights(model):
        return None
    return sum(math.prod(weight.shape) for weight in model.weights)


def count_bytes(model) -> int | None:
    """Counts the bytes of all weights. `None` if functions hide some."""
    if not has_known_weights(model):
        return None
    return sum(
        math.prod(weight.shape) * np.dtype(weight.dtype).itemsize
        for weight in model.weights
    )


def measure_latency(functions: dict, inputs, batch_size: int) -> dict:
    """Returns the median milliseconds of each function for one batch."""
    batch = keras.tree.map_structure(
        # Examples repeat if there are fewer than `batch_size`.
        lambda x: ops.convert_to_tensor(
            np.take(x, np.arange(batch_size) % len(x), axis=0)
        ),
        inputs,
    )
    for function in functions.values():
        # The first call traces, and the second call is still slower.
        for _ in range(2):
            _run(function, batch)
    seconds: dict[str, list] = {name: [] for name in functions}
    begin = time.perf_counter()
    for repetition in range(_MAX_REPETITIONS):
        # Functions take turns, so other load on the machine slows all of them.
        for name, function in functions.items():
            start = time.perf_counter()
            _run(function, batch)
            seconds[name].append(time.perf_counter() - start)
        is_late = time.perf_counter() - begin > _MAX_SECONDS * len(functions)
        if is_late and repetition + 1 >= _MIN_REPETITIONS:
            break
    return {
        name: 1000 * float(np.median(values))
        for name, values in seconds.items()
    }


def measure_macs(model, inputs) -> int | None:
    """Counts the MACs for one example. `None` if a loop hides operations."""
    is_layer = isinstance(model, keras.layers.Layer)
    options = {"training": False} if is_layer else {}
    return count_macs(lambda x: model(x, **options), inputs)


def _run(function, batch) -> None:
    # Reading the result waits until the device has computed it.
    ops.convert_to_numpy(keras.tree.flatten(function(batch))[0])

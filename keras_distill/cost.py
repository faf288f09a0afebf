"""What a model costs: parameters, bytes, multiply-adds, milliseconds."""

import math
import statistics
import time

import keras
import numpy as np
from keras import ops

from keras_distill.backend import count_macs

# For each model and batch size.
_REPETITIONS = 100
_FEWEST_REPETITIONS = 5
_SECONDS = 3.0


def count_parameters(model):
    """Returns the number of weights of a model, trainable or not.

    Args:
        model: `keras.Model`; of another callable nothing is known.

    Returns:
        An integer, or `None`.
    """
    if not _is_keras(model):
        return None
    return sum(math.prod(weight.shape) for weight in model.weights)


def count_bytes(model):
    """Returns the size of all weights of a model in their own dtypes.

    Args:
        model: `keras.Model`; of another callable nothing is known.

    Returns:
        An integer, or `None`.
    """
    if not _is_keras(model):
        return None
    return sum(
        math.prod(weight.shape) * _count_bits(weight.dtype) // 8
        for weight in model.weights
    )


def measure_latency(functions, inputs, batch_size):
    """Measures how long models take for one batch.

    They take turns, so that what else happens on the machine meets all of
    them alike: up to 100 times each, or until 3 seconds have gone by for each.

    Args:
        functions: Dict of compiled functions of a batch of inputs.
        inputs: Structure of arrays, the inputs of one example or more.
        batch_size: Number of examples in a batch; those of `inputs` are
            repeated if need be.

    Returns:
        Dict of the median milliseconds.
    """
    batch = keras.tree.map_structure(
        lambda x: ops.convert_to_tensor(
            np.take(x, np.arange(batch_size) % len(x), axis=0)
        ),
        inputs,
    )
    for function in functions.values():
        # The first call traces, the second one still warms up.
        for _ in range(2):
            _run(function, batch)
    seconds: dict[str, list] = {name: [] for name in functions}
    begin = time.perf_counter()
    for repetition in range(_REPETITIONS):
        for name, function in functions.items():
            start = time.perf_counter()
            _run(function, batch)
            seconds[name].append(time.perf_counter() - start)
        late = time.perf_counter() - begin > _SECONDS * len(functions)
        if late and repetition + 1 >= _FEWEST_REPETITIONS:
            break
    return {
        name: 1000 * statistics.median(each) for name, each in seconds.items()
    }


def measure_multiply_adds(model, inputs):
    """Counts the multiply-adds for one example, where they can be counted.

    Args:
        model: `keras.Model` or callable.
        inputs: Structure of arrays: a batch of inputs.

    Returns:
        An integer, or `None`.
    """

    def call(x):
        if isinstance(model, keras.layers.Layer):
            return model(x, training=False)
        return model(x)

    return count_macs(call, inputs)


def _is_keras(model):
    """Whether all weights of a model are known."""
    # An ensemble may have members that are functions.
    members = [model, *getattr(model, "models", [])]
    return all(isinstance(each, keras.layers.Layer) for each in members)


def _run(function, batch):
    # Nothing is done before its result is there.
    ops.convert_to_numpy(keras.tree.flatten(function(batch))[0])


def _count_bits(dtype):
    return int("".join(filter(str.isdigit, dtype)) or 8)

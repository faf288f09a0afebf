"""Soft targets that are more than one tensor of logits.

They stand where a tensor of logits would: as the `y_true` of a distillation
loss, and under `"soft_targets"` in the data of a `Distiller`.
"""

import typing

import keras
import numpy as np
from keras import ops

from keras_distill.validation import check_choice
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperatures

# What logits may be rounded to.
TARGET_DTYPES = ("float16", "float32")


class TopKTargets(typing.NamedTuple):
    """The k largest of a teacher's logits, and what is known of the others.

    At a temperature T the teacher's probability of the class `classes[i]` is
    `exp(logits[i] / T - log_sum_exp)`, with the `log_sum_exp` of that T. What
    these leave of 1 is the probability of all other classes together: one
    bucket, "the rest". It can not be had for other temperatures, so the losses
    refuse a T that is not among `temperatures` (under `jit_compile=True`, where
    a step can not stop, the loss is NaN).

    Made by `top_k_targets`, or read from a `SoftTargetStore`. The losses take
    it in the place of dense logits of shape `(batch, ..., num_classes)`.

    Example:

    ```python
    targets = keras_distill.top_k_targets(teacher_logits, k=3)
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("adam")
    distiller.fit(x, {"soft_targets": targets})
    ```

    Args:
        logits: Float tensor of shape `(batch, ..., k)`: the k largest logits
            in descending order, less the largest one, which no softmax sees.
            So the first is 0.
        classes: Integer tensor of shape `(batch, ..., k)`: their classes.
        log_sum_exp: Float tensor of shape `(batch, ..., temperatures)`: the
            logarithm of the sum of `exp(v / T)` over the logits `v` of all
            classes, less the largest one.
        temperatures: Float tensor of shape `(batch, ..., temperatures)`: the
            T of each. The same for all samples.
        num_classes: Integer tensor of shape `(batch, ...)`: the number of all
            classes. The same for all samples.
    """

    logits: typing.Any
    classes: typing.Any
    log_sum_exp: typing.Any
    temperatures: typing.Any
    num_classes: typing.Any


class EnsembleTargets(typing.NamedTuple):
    """Logits of a mean of probabilities, which hold at one temperature only.

    Args:
        logits: Float tensor of shape `(batch, ..., classes)`.
        temperatures: Float tensor of shape `(batch, 1)`: the temperature.
    """

    logits: typing.Any
    temperatures: typing.Any


def top_k_targets(logits, k, temperatures=(1.0, 4.0), dtype="float32"):
    """Keeps the k largest logits of each sample, and the mass of the others.

    Example:

    ```python
    targets = keras_distill.top_k_targets(
        teacher_logits, k=3, temperatures=(4.0,)
    )
    loss = keras_distill.losses.SoftTargetCrossentropy(temperature=4.0)
    value = loss(targets, student(x))
    ```

    Args:
        logits: Float tensor of shape `(batch, ..., classes)`.
        k: Integer from 1 to `classes - 1`.
        temperatures: The temperatures that losses may ask for: distinct
            positive numbers. Defaults to `(1.0, 4.0)`.
        dtype: `"float16"` rounds the k logits to what half precision holds, as
            a `SoftTargetStore` does, so that their probabilities and the rest
            still sum to 1. Defaults to `"float32"`.

    Returns:
        `TopKTargets`.

    Raises:
        ValueError: If an argument is not of the kind above.
    """
    logits = ops.convert_to_tensor(logits)
    if not keras.backend.is_float_dtype(logits.dtype):
        raise ValueError(
            "Expected floating point logits. Received: logits of dtype "
            f"{keras.backend.standardize_dtype(logits.dtype)}"
        )
    num_classes = logits.shape[-1]
    check_integer("k", k, low=1, high=num_classes - 1)
    check_choice("dtype", dtype, TARGET_DTYPES)
    temperatures = check_temperatures(temperatures)
    wide = keras.backend.result_type(logits.dtype, "float32")
    logits = ops.cast(logits, wide)
    shifted = logits - ops.max(logits, axis=-1, keepdims=True)
    exact, classes = ops.top_k(shifted, k, sorted=True)
    kept = ops.cast(round_to_half(exact), wide) if dtype == "float16" else exact
    log_sum_exp = ops.stack(
        [
            # What the k lose by rounding, the whole loses too.
            ops.log(
                ops.sum(ops.exp(shifted / temperature), axis=-1)
                + ops.sum(
                    ops.exp(kept / temperature) - ops.exp(exact / temperature),
                    axis=-1,
                )
            )
            for temperature in temperatures
        ],
        axis=-1,
    )
    return TopKTargets(
        kept,
        classes,
        log_sum_exp,
        ops.zeros_like(log_sum_exp) + np.array(temperatures, wide),
        ops.full_like(classes[..., 0], num_classes),
    )


def round_to_half(shifted):
    """Rounds logits, less the largest, to half precision.

    The lowest number it has stands for all below: a probability of 0 at every
    temperature up to 600.
    """
    return ops.cast(ops.maximum(shifted, -65504.0), "float16")


def is_compound(soft_targets):
    """Whether these are the soft targets of one output, but not a tensor."""
    return isinstance(soft_targets, (TopKTargets, EnsembleTargets))


def map_outputs(function, soft_targets):
    """Calls a function with the soft targets of each output.

    Args:
        function: Function of a tensor, `TopKTargets` or `EnsembleTargets` that
            does not return `None`.
        soft_targets: Structure of these.

    Returns:
        What the function returned, in the structure of the outputs.
    """

    def visit(node):
        of_one_output = is_compound(node) or not keras.tree.is_nested(node)
        return function(node) if of_one_output else None

    return keras.tree.traverse(visit, soft_targets)


def flatten_outputs(soft_targets):
    """Lists the soft targets of each output, in flat order."""
    flat: list = []

    def add(of_one_output):
        flat.append(of_one_output)
        return 0

    map_outputs(add, soft_targets)
    return flat

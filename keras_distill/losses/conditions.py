"""Soft targets that hold under conditions, which a loss has to meet."""

import numpy as np
from keras import ops

from keras_distill.backend import check_finite

OTHER_TEMPERATURE = (
    "The temperature of the distillation loss or metric is none of those that "
    "the soft targets were made for"
)
OTHER_CLASSES = (
    "The soft targets were made for another number of classes than the "
    "student has"
)


def require_temperature(targets, temperature):
    """Returns logits of an ensemble that serve a temperature.

    Args:
        targets: `EnsembleTargets`.
        temperature: Positive number or scalar tensor.

    Returns:
        The logits. Where they were averaged at another temperature, the step
        is stopped; under XLA, which can not stop, they are NaN.

    Raises:
        NumericsError: As `check_finite` does.
    """
    logits = targets.logits
    matches = ops.any(_matches(targets.temperatures, temperature))
    return check_finite(
        ops.where(matches, logits, _nan(logits)), OTHER_TEMPERATURE
    )


def select_log_sum_exp(targets, temperature, num_classes):
    """Returns the log-sum-exp of top-k targets at a temperature.

    Args:
        targets: `TopKTargets`.
        temperature: Positive number or scalar tensor.
        num_classes: Integer, the classes of the student.

    Returns:
        Tensor of shape `(batch, ..., 1)`. Where the targets were not made for
        the temperature or for as many classes, the step is stopped; under XLA,
        which can not stop, it is NaN.

    Raises:
        NumericsError: As `check_finite` does.
    """
    log_sum_exp = targets.log_sum_exp
    matches = _matches(targets.temperatures, temperature)
    selected = ops.sum(
        ops.where(matches, log_sum_exp, 0.0), axis=-1, keepdims=True
    )
    selected = check_finite(
        ops.where(
            ops.any(matches, axis=-1, keepdims=True),
            selected,
            _nan(log_sum_exp),
        ),
        OTHER_TEMPERATURE,
    )
    agrees = ops.cast(targets.num_classes, "int32") == num_classes
    return check_finite(
        ops.where(ops.expand_dims(agrees, -1), selected, _nan(log_sum_exp)),
        OTHER_CLASSES,
    )


def _matches(temperatures, temperature):
    # Equal up to the rounding of a dtype.
    return ops.abs(temperatures - temperature) <= 1e-6 * temperature


def _nan(like):
    return ops.cast(np.nan, like.dtype)

"""Proposes starting values for hyperparameters."""

import bisect
import math

import numpy as np

from keras_distill.inference import predict_finite_rows
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.validation import check_number

# In steps of 0.1 %.
_TEMPERATURES = np.geomspace(1.0, 1000.0, 6913)


def suggest_temperature(
    teacher, x, share=0.5, batch_size=None, from_logits=True, verbose=0
):
    """Proposes a temperature from the entropy of a teacher's soft targets.

    The entropy of the soft targets rises with T, from almost 0 for a good
    teacher at T = 1, towards log C if all C classes are almost equally likely.
    This function returns the T at which the mean entropy is a `share` of log C.

    It needs no labels and no training. Use the result to start a search, and
    decide on a validation set: a small student may need a lower T (Hinton,
    Vinyals and Dean, 2015, section 3: 2.5 to 4 is best for 30 units, while
    everything above 8 works for 300).

    Example:

    ```python
    temperature = keras_distill.suggest_temperature(teacher, x)
    loss = keras_distill.losses.SoftTargetCrossentropy(temperature)
    ```

    Args:
        teacher: A `keras.Model` with one output, or a callable
            `inputs -> outputs`. For an `Ensemble` with an arithmetic mean, pass
            one member.
        x: Inputs, as in `predict_logits`. A few hundred are enough.
        share: Float between 0 and 1, both excluded. Defaults to `0.5`.
        batch_size: As in `predict_logits`.
        from_logits: As in `predict_logits`.
        verbose: As in `predict_logits`. Defaults to `0`.

    Returns:
        Float from 1 to 1000 with three digits. It is 1 if the entropy at T = 1
        is already above the share.

    Raises:
        ValueError: If `share` is not between 0 and 1, the teacher is an
            arithmetic `Ensemble` or has a single class, or a logit is not
            finite.
    """
    from scipy import special

    share = check_number("share", share, low=0, high=1)
    if share in (0, 1):
        raise ValueError(
            "Expected `share` to be between 0 and 1, both excluded. "
            f"Received: share={share:g}"
        )
    if isinstance(teacher, Ensemble) and teacher.averages_at_a_temperature:
        raise ValueError(
            "The logits of an ensemble with an arithmetic mean depend on the "
            "temperature. Pass a member of the ensemble. Received: an "
            "`Ensemble` with an arithmetic mean"
        )
    logits = predict_finite_rows(teacher, x, batch_size, from_logits, verbose)

    def measure_entropy(temperature):
        probabilities = special.softmax(logits / temperature, axis=-1)
        return np.mean(special.entr(probabilities).sum(axis=-1))

    # The entropy never decreases with the temperature.
    position = bisect.bisect_left(
        _TEMPERATURES[:-1],
        share * math.log(logits.shape[-1]),
        key=measure_entropy,
    )
    return float(f"{_TEMPERATURES[position]:.3g}")

"""The k largest logits of a teacher, and the mass of all other classes."""

import keras
import numpy as np
from keras import ops

from keras_distill.targets import TopKTargets
from keras_distill.targets import log_sum_exp_without
from keras_distill.validation import check_choice
from keras_distill.validation import check_given
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperatures

# The dtypes that logits can be rounded to.
TARGET_DTYPES = ("float16", "float32")


def top_k_targets(logits, k, temperatures=(1.0, 4.0), dtype="float32"):
    """Keeps the k largest logits of each sample, and the mass of the rest.

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
        temperatures: The temperatures that losses may use: distinct positive
            numbers. Defaults to `(1.0, 4.0)`.
        dtype: `"float16"` rounds the k logits to half precision, as a
            `SoftTargetStore` does. Defaults to `"float32"`.

    Returns:
        `TopKTargets`.

    Raises:
        ValueError: If an argument is not of the kind above.
    """
    check_given(logits=logits)
    logits = ops.convert_to_tensor(logits)
    if len(logits.shape) == 0:
        raise ValueError(
            "Expected logits of shape (batch, ..., classes). Received: a scalar"
        )
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
    kept, classes = ops.top_k(shifted, k, sorted=True)
    if dtype == "float16":
        # The lowest number of half precision stands for all lower ones. It
        # means a probability of 0 at every temperature up to 600.
        kept = ops.cast(ops.maximum(kept, -65504.0), "float16")
        kept = ops.cast(kept, wide)
    rest = ops.concatenate(
        [
            log_sum_exp_without(shifted / temperature, classes)
            for temperature in temperatures
        ],
        axis=-1,
    )
    return TopKTargets(
        kept,
        classes,
        rest,
        ops.zeros_like(rest) + np.array(temperatures, wide),
        ops.full_like(classes[..., 0], num_classes),
    )

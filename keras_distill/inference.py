"""The logits of any model, for all kinds of data that `fit` accepts."""

import keras
import numpy as np
from keras import ops

from keras_distill.backend import compile_inference
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.data.batches import to_batches
from keras_distill.forward import forward
from keras_distill.forward import forward_served
from keras_distill.targets import LOG_SMALLEST
from keras_distill.targets import to_logits
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.validation import check_positive


def predict_logits(
    model,
    x,
    batch_size=None,
    from_logits=True,
    temperature=1.0,
    verbose="auto",
):
    """Computes the logits of a model, with or without a softmax at the end.

    It works like `model.predict`, but it returns the logits before the softmax
    if the model ends in `keras.layers.Softmax`, `activation="softmax"` or
    `TemperatureSoftmax`.

    Example:

    ```python
    logits = keras_distill.predict_logits(teacher, x)
    targets = keras_distill.top_k_targets(logits, k=3)
    ```

    Args:
        model: A `keras.Model` with one output, or a callable
            `inputs -> outputs`.
        x: Inputs: arrays, or a `tf.data.Dataset`, `keras.utils.PyDataset` or
            generator of batches. Labels are not used.
        batch_size: Integer, for arrays and datasets of single examples.
            Defaults to `None`, which means 128 for arrays.
        from_logits: Whether the model outputs logits (`True`, the default) or
            probabilities. Not used if the model ends in a recognizable
            softmax.
        temperature: Positive float. An `Ensemble` with an arithmetic mean
            averages its members at this temperature, and its logits hold only
            at this temperature. Not used for other models. Defaults to `1.0`.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.predict`.

    Returns:
        Float array of shape `(examples, ..., classes)`.

    Raises:
        ValueError: If the model has several outputs, or there is no example.
    """
    temperature = check_positive("temperature", temperature)
    compute = compile_logits(model, from_logits, temperature)
    batches, length = to_batches(x, batch_size)
    logits = [
        ops.convert_to_numpy(compute(batch[0])[0])
        for batch in show_progress(batches, length, verbose)
    ]
    if not logits:
        raise ValueError("Expected at least one example. Received: none")
    return np.concatenate(logits)


def compile_logits(model, from_logits, temperature=1.0, served: bool = False):
    """Returns a compiled function `inputs -> (logits, Keras mask or None)`.

    `served` divides the logits by the serving temperature of a
    `TemperatureSoftmax` at the end of the model.
    """
    if isinstance(model, type) or not callable(model):
        raise ValueError(
            "Expected a `keras.Model` or a callable, followed by the inputs. "
            f"Received: {model!r}"
        )

    is_layer = isinstance(model, keras.layers.Layer)

    def compute(inputs):
        if isinstance(model, Ensemble):
            outputs = model.compute_logits(inputs, temperature)
            logits, mask = outputs, get_keras_mask(outputs)
        elif is_layer and served:
            outputs, logits, mask = forward_served(model, inputs)
        elif is_layer:
            outputs, logits, _, mask = forward(model, inputs)
            logits, mask = logits[0], mask[0]
        else:
            outputs = model(inputs)
            logits, mask = None, get_keras_mask(outputs)
        if keras.tree.is_nested(outputs):
            raise ValueError(
                "Expected a model with one output. Received: a model with "
                f"{len(keras.tree.flatten(outputs))} outputs"
            )
        if logits is None:
            logits = (
                outputs if from_logits else to_logits(outputs, LOG_SMALLEST)
            )
        dtype = keras.backend.result_type(logits.dtype, "float32")
        return ops.cast(logits, dtype), mask

    return compile_inference(compute, model.variables if is_layer else [])


def show_progress(batches, length, verbose):
    """Yields the batches and shows the progress bar of `predict`."""
    bar = keras.utils.Progbar(
        length, verbose=1 if verbose == "auto" else int(verbose)
    )
    done = 0
    for batch in batches:
        yield batch
        done += 1
        bar.update(done)
    if length is None:
        bar.update(done, finalize=True)

"""The logits of any model, for any data that `fit` takes."""

import keras
import numpy as np
from keras import ops

from keras_distill.backend import compile_inference
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.data.batches import to_batches
from keras_distill.forward import forward
from keras_distill.forward import forward_served
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.temperature import LOG_SMALLEST
from keras_distill.temperature import check_temperature
from keras_distill.temperature import to_logits


def predict_logits(
    model,
    x,
    batch_size=None,
    from_logits=True,
    temperature=1.0,
    verbose="auto",
):
    """Computes the logits of a model, whether or not it ends in a softmax.

    As `model.predict`, but of a model that ends in `keras.layers.Softmax`,
    `activation="softmax"` or `TemperatureSoftmax` it returns what the softmax
    is applied to.

    Example:

    ```python
    logits = keras_distill.predict_logits(teacher, x)
    targets = keras_distill.top_k_targets(logits, k=3)
    ```

    Args:
        model: A `keras.Model` with one output, or a callable
            `inputs -> outputs`.
        x: Inputs: arrays, or a `tf.data.Dataset`, `keras.utils.PyDataset` or
            generator of batches, of which the labels are not used.
        batch_size: Integer, for arrays and datasets without batches. Defaults
            to `None`: 128 for arrays.
        from_logits: Whether the outputs are logits (`True`, the default) or
            probabilities, where no softmax can be found in the model.
        temperature: Positive float, at which the members of an `Ensemble` with
            the arithmetic mean are averaged: its logits hold at this one.
            Other models have the same logits at each. Defaults to `1.0`.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.predict`.

    Returns:
        Float array of shape `(examples, ..., classes)`.

    Raises:
        ValueError: If the model has several outputs, or there is no example.
    """
    temperature = check_temperature("temperature", temperature)
    compute = compile_logits(model, from_logits, temperature)
    # A list has all inputs, as in `predict`, and no labels.
    data = (x,) if isinstance(x, list) else x
    batches, length = to_batches(data, batch_size)
    logits = [
        ops.convert_to_numpy(compute(batch[0])[0])
        for batch in show_progress(batches, length, verbose)
    ]
    if not logits:
        raise ValueError("Expected at least one example. Received: none")
    return np.concatenate(logits)


def compile_logits(model, from_logits, temperature=1.0, served=False):
    """Returns a compiled function of a batch of inputs.

    Args:
        model: As in `predict_logits`.
        from_logits: As in `predict_logits`.
        temperature: At which the members of an `Ensemble` are averaged.
        served: Whether to divide by the serving temperature of a
            `TemperatureSoftmax` at the end. Defaults to `False`.

    Returns:
        Function `inputs -> (logits, mask)`, where the mask is Keras's, of the
        positions that count, or `None`.
    """
    if isinstance(model, type) or not callable(model):
        raise ValueError(
            "Expected a `keras.Model` or a callable, and the inputs after it. "
            f"Received: {model!r}"
        )

    def compute(inputs):
        if isinstance(model, Ensemble):
            outputs = model.compute_logits(inputs, temperature)
            logits, mask = outputs, get_keras_mask(outputs)
        elif isinstance(model, keras.layers.Layer):
            if served:
                outputs, logits, mask = forward_served(model, inputs)
            else:
                result = forward(model, inputs)
                outputs, logits = result.outputs, result.logits[0]
                mask = result.mask[0]
        else:
            outputs = model(inputs)
            logits, mask = None, get_keras_mask(outputs)
        if keras.tree.is_nested(outputs):
            raise ValueError(
                "Expected a model with one output. Received one with "
                f"{len(keras.tree.flatten(outputs))}"
            )
        if logits is None:
            logits = (
                outputs if from_logits else to_logits(outputs, LOG_SMALLEST)
            )
        dtype = keras.backend.result_type(logits.dtype, "float32")
        return ops.cast(logits, dtype), mask

    known = isinstance(model, keras.layers.Layer)
    return compile_inference(compute, model.variables if known else [])


def show_progress(batches, length, verbose):
    """Yields the batches, with Keras's progress bar.

    Args:
        batches: Iterable.
        length: Their number, or `None`.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.predict`.
    """
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

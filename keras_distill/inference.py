"""The logits of any model, for all kinds of data that `fit` accepts."""

import keras
import numpy as np
from keras import ops

from keras_distill.backend import compile_inference
from keras_distill.backend.keras_compat import set_keras_mask
from keras_distill.data.batches import closing_iterator
from keras_distill.data.batches import to_batches
from keras_distill.forward import has_serving_temperature
from keras_distill.targets import LOG_SMALLEST
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.ensemble import call_model
from keras_distill.validation import check_flag
from keras_distill.validation import check_temperature
from keras_distill.validation import check_verbose


def predict_logits(
    model,
    x,
    batch_size=None,
    from_logits=True,
    temperature=1.0,
    verbose="auto",
):
    """Computes the logits of a model, with or without a softmax at the end.

    It works like `model.predict`, but if the model ends in a softmax layer or
    `activation="softmax"`, it returns the logits before the softmax.

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
        batch_size: Integer, for arrays (default: 128) and single examples.
        from_logits: Whether the model outputs logits (`True`, the default) or
            probabilities. Not used if a softmax at the end is recognized.
        temperature: Float from 1e-3 to 1e4, for an `Ensemble` with an
            arithmetic mean. Its logits hold only at this temperature. Defaults
            to `1.0`.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.predict`.

    Returns:
        Float array of shape `(examples, ..., classes)`.

    Raises:
        ValueError: If the model has several outputs, or there is no example.
    """
    temperature = check_temperature("temperature", temperature)
    compute = compile_logits(model, from_logits, (temperature,))
    batches, length = to_batches(x, batch_size)
    with show_progress(batches, length, verbose) as shown:
        logits = [
            ops.convert_to_numpy(compute(batch[0])[0][0]) for batch in shown
        ]
    if not logits:
        raise ValueError("Expected at least one example. Received: none")
    return np.concatenate(logits)


def predict_finite_rows(model, x, batch_size, from_logits, verbose):
    """Returns finite logits of shape `(rows, classes)` in float64."""
    logits = predict_logits(
        model, x, batch_size, from_logits=from_logits, verbose=verbose
    )
    finite = np.isfinite(logits)
    if logits.shape[-1] < 2 or not finite.all():
        raise ValueError(
            "Expected a model with finite logits for two or more classes. "
            f"Received: logits of shape {logits.shape}, of which "
            f"{np.sum(~finite)} are not finite"
        )
    return np.float64(logits).reshape(-1, logits.shape[-1])


def compile_logits(model, from_logits, temperatures=(None,)):
    """Returns a compiled function `inputs -> (logits, Keras mask or None)`."""
    # There are logits for each temperature. `None` is that of serving.
    check_flag("from_logits", from_logits)
    if isinstance(model, type) or not callable(model):
        raise ValueError(
            "Expected a `keras.Model` or a callable, followed by the inputs. "
            f"Received: {model!r}"
        )

    def compute(inputs):
        known = model
        if len(temperatures) > 1 and isinstance(model, Ensemble):
            known = _run_members(model, inputs)
        passes = [
            _compute_logits(known, inputs, from_logits, temperature)
            for temperature in temperatures
        ]
        _, mask = passes[0]
        wide = keras.backend.result_type(passes[0][0].dtype, "float32")
        return [ops.cast(logits, wide) for logits, _ in passes], mask

    is_layer = isinstance(model, keras.layers.Layer)
    return compile_inference(compute, model.variables if is_layer else [])


def depends_on_temperature(model) -> bool:
    """Whether the logits of a model hold only at one temperature."""
    if isinstance(model, Ensemble):
        return model.averages_at_a_temperature
    return isinstance(model, keras.layers.Layer) and has_serving_temperature(
        model
    )


def show_progress(batches, length, verbose):
    """Returns a context with the batches, and shows the progress bar."""
    return closing_iterator(_count_batches(batches, length, verbose))


def _count_batches(batches, length, verbose):
    """Yields the batches and shows the progress bar of `predict`."""
    bar = keras.utils.Progbar(length, verbose=check_verbose(verbose))
    done = 0
    for done, batch in enumerate(batches, 1):
        yield batch
        bar.update(done)
    if length is None:
        bar.update(done, finalize=True)


def _compute_logits(model, inputs, from_logits, temperature):
    """Returns the logits of a model with one output, and its Keras mask."""
    result = call_model(model, inputs, temperature=temperature or 1.0)
    if keras.tree.is_nested(result.outputs):
        raise ValueError(
            "Expected a model with one output. Received: a model with "
            f"{len(result.logits)} outputs"
        )
    logits = result.find_logits(0, from_logits, LOG_SMALLEST)
    served = result.serving_temperatures[:1]
    if temperature is None and served not in ((), (1.0,)):
        logits = logits / served[0]
    return logits, result.mask[0]


def _run_members(ensemble, inputs):
    """Returns an ensemble of functions that return the members' logits."""

    def run(member):
        if isinstance(member, Ensemble):
            return _run_members(member, inputs)
        logits, mask = _compute_logits(
            member, inputs, ensemble.from_logits, temperature=1.0
        )
        set_keras_mask(logits, mask)
        return lambda _: logits

    return Ensemble(
        list(map(run, ensemble.models)),
        ensemble.combine,
        ensemble.member_weights,
        axis=ensemble.axis,
    )

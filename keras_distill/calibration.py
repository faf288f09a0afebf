"""Corrects the class biases of a student, without training.

A class can be rare in the transfer set, or missing. A distilled student learns
this class from the teacher's soft targets, but predicts it too rarely. A larger
bias for this class corrects it (Hinton, Vinyals and Dean, 2015, section 3).
"""

import keras
import numpy as np
from keras import ops

from keras_distill.backend.keras_compat import find_origin
from keras_distill.forward import is_softmax
from keras_distill.forward import is_softmax_function
from keras_distill.inference import predict_finite_rows
from keras_distill.validation import check_integer
from keras_distill.validation import check_number

__all__ = ["match_class_prior", "shift_class_bias"]

# The largest relative difference of a mean probability from its prior.
_TOLERANCE = 1e-3


def shift_class_bias(model, shifts):
    """Returns a copy of a model with shifted class biases.

    The logit of each class increases by the shift of the class. For example, a
    student that was distilled without a single 3 makes 206 errors on MNIST, and
    109 after the bias of this class is raised by 3.5 (Hinton, Vinyals and Dean,
    2015, section 3).

    Example:

    ```python
    shifted = keras_distill.calibration.shift_class_bias(student, {3: 3.5})
    shifted.predict(x_test)
    ```

    Args:
        model: A `keras.Model` with one output. It ends in a layer with a bias
            for each class, such as `keras.layers.Dense`, and maybe a softmax.
        shifts: Dict from class ids to numbers, or one number for each class,
            such as the result of `match_class_prior`.

    Returns:
        A copy of the model, not compiled.

    Raises:
        ValueError: If the model does not end in such a layer, a class does
            not exist, or a shift is not finite.
    """
    # Raises an error before the copy.
    _find_output_layer(model)
    shifted = keras.models.clone_model(model)
    shifted.set_weights(model.get_weights())
    bias = _find_output_layer(shifted).bias
    classes = bias.shape[-1]
    bias.assign(bias + ops.cast(_to_array(shifts, classes), bias.dtype))
    return shifted


def match_class_prior(
    model, x, prior=None, batch_size=None, from_logits=True, verbose="auto"
):
    """Finds the bias shifts that make a model's predictions match a prior.

    The frequencies of the classes are often known, even if the inputs have no
    labels. With the logits z of the model, this function finds shifts b such
    that the mean probabilities (at temperature 1) equal the prior:

        mean over x of softmax(z(x) + b) = prior

    The solution is unique up to a constant, which does not change the softmax.
    The median shift is 0. The prior has to be correct for `x`. A wrong prior
    turns correct predictions into errors.

    Example:

    ```python
    shifts = keras_distill.calibration.match_class_prior(student, unlabelled_x)
    shifted = keras_distill.calibration.shift_class_bias(student, shifts)
    ```

    Args:
        model: A `keras.Model` with one output, or a callable
            `inputs -> outputs`.
        x: Inputs, as in `predict_logits`. Labels are not used. In sequences,
            every position counts, including padding.
        prior: The frequency of each class: positive numbers that sum to 1.
            Defaults to `None`, which means equal frequencies.
        batch_size: As in `predict_logits`.
        from_logits: As in `predict_logits`.
        verbose: As in `predict_logits`.

    Returns:
        Float array of shape `(classes,)`, in nats, for `shift_class_bias`.

    Raises:
        ValueError: If the prior is invalid, there is no input or only one
            class, or the logits are not finite.
        RuntimeError: If the search does not find such biases.
    """
    from scipy import optimize
    from scipy.special import logsumexp
    from scipy.special import softmax

    logits = predict_finite_rows(model, x, batch_size, from_logits, verbose)
    classes = logits.shape[-1]
    prior = _check_prior(prior, classes)

    def evaluate(shifts):
        # This convex function has its minimum where the gradient is 0.
        shifted = logits + shifts
        value = np.mean(logsumexp(shifted, axis=-1)) - prior @ shifts
        return value, np.mean(softmax(shifted, axis=-1), axis=0) - prior

    # Close to the solution for classes that the model predicts rarely.
    start = np.log(prior) - np.log(
        np.maximum(np.mean(softmax(logits, axis=-1), axis=0), 1e-12)
    )
    result = optimize.minimize(
        evaluate,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    # `success` also depends on a tolerance that floats cannot reach.
    difference = float(np.max(np.abs(result.jac) / prior))
    if difference > _TOLERANCE:
        raise RuntimeError(
            "No class biases were found that make the mean probabilities match "
            "the prior: for one class they differ by "
            f"{difference:.2g} of its prior. The logits may be too far apart. "
            f"Received: prior={prior}"
        )
    return result.x - np.median(result.x)


def _find_output_layer(model):
    """Returns the layer with the bias that is added to a model's logits."""
    layer = model
    while isinstance(layer, keras.Model) or layer is model:
        if len(getattr(layer, "outputs", None) or []) != 1:
            raise ValueError(
                "Expected a `keras.Model` with one output that was built with "
                f"`keras.Sequential` or from `keras.Input`. Received: {layer!r}"
            )
        layer, inputs = find_origin(layer.outputs[0])
        while is_softmax(layer) or (
            isinstance(layer, keras.layers.Activation)
            and _is_linear_or_softmax(layer.activation)
        ):
            layer, inputs = find_origin(inputs[0])
    bias = getattr(layer, "bias", None)
    if (
        bias is None
        or len(bias.shape) != 1
        or not _is_linear_or_softmax(getattr(layer, "activation", None))
    ):
        raise ValueError(
            "Expected a model that ends in a layer with a bias for each class, "
            "such as `keras.layers.Dense(classes)`, with or without a softmax "
            "after it and with no other activation. Received: a model that "
            f"ends in {layer!r}"
        )
    return layer


def _is_linear_or_softmax(activation) -> bool:
    linear = (None, keras.activations.linear)
    return activation in linear or is_softmax_function(activation)


def _to_array(shifts, classes: int):
    """Returns an array with the shift of each class."""
    if not isinstance(shifts, dict):
        if np.shape(shifts) != (classes,):
            raise ValueError(
                f"Expected `shifts` to be {classes} numbers, one for each "
                f"class, or a dict. Received: shifts={shifts!r}"
            )
        shifts = dict(enumerate(np.asarray(shifts).tolist()))
    array = np.zeros(classes)
    for label, shift in shifts.items():
        check_integer("keys of shifts", label, low=0, high=classes - 1)
        array[label] = check_number("shifts", shift, low=-np.inf)
    return array


def _check_prior(prior, classes: int):
    if prior is None:
        return np.full(classes, 1.0 / classes)
    frequencies = np.asarray(prior)
    if (
        frequencies.dtype.kind not in "iuf"
        or frequencies.shape != (classes,)
        or not np.all(frequencies > 0)
        or abs(frequencies.sum() - 1) > 1e-6
    ):
        raise ValueError(
            f"Expected `prior` to be {classes} positive numbers that sum to "
            f"1, one for each class. Received: prior={prior!r}"
        )
    return frequencies / frequencies.sum()

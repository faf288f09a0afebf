"""Class biases: what a student gets wrong because of its transfer set.

A class that the transfer set has too little of, or nothing at all, a distilled
student still knows from the teacher's soft targets; it only says so too seldom.
Its bias can be set right afterwards, without training (Hinton, Vinyals and
Dean, 2015, section 3).
"""

import keras
import numpy as np
from keras import ops

from keras_distill.backend.keras_compat import find_origin
from keras_distill.forward import is_softmax
from keras_distill.forward import is_softmax_function
from keras_distill.inference import predict_logits
from keras_distill.validation import check_number

__all__ = ["match_class_prior", "shift_class_bias"]

# Of a mean probability from the prior of its class, as a share of that.
_LARGEST_MISS = 1e-3


def shift_class_bias(model, shifts):
    """Returns a model whose output layer has other biases.

    A shift is added to the logit of its class, for every input. A student that
    was distilled without a single 3 makes 206 errors on MNIST, and 109 once the
    bias of this class is raised by 3.5 (Hinton, Vinyals and Dean, 2015,
    section 3).

    Example:

    ```python
    shifted = keras_distill.calibration.shift_class_bias(student, {3: 3.5})
    shifted.predict(x_test)
    ```

    Args:
        model: A `keras.Model` with one output, which ends in a layer with a
            bias for each class, such as `keras.layers.Dense`, with or without
            a softmax behind it.
        shifts: Dict from class ids to numbers, or one number for each class,
            such as `match_class_prior` returns.

    Returns:
        A copy of the model, not compiled. The model itself is not changed.

    Raises:
        ValueError: If the model does not end in such a layer, a class does
            not exist, or a shift is not finite.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Expected `model` to be a `keras.Model`. Received: {model!r}"
        )
    # Looked for before anything is copied.
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
    """Finds the class biases with which a model predicts what is expected.

    Of inputs without labels it is often known how frequent the classes are.
    With the logits z of the model this finds shifts b such that its mean
    probabilities are the prior:

        mean over x of softmax(z(x) + b) = prior

    They are where `mean logsumexp(z + b) - prior . b` is smallest, which is
    convex, so that there is one solution, up to a constant that no softmax
    sees. The constant is chosen so that the median shift is 0. (The softmax is
    that at temperature 1, whatever a `TemperatureSoftmax` serves at.)

    The prior has to be that of the inputs. Another one moves examples of
    classes that the model knows well into others.

    Example:

    ```python
    shifts = keras_distill.calibration.match_class_prior(student, unlabelled_x)
    shifted = keras_distill.calibration.shift_class_bias(student, shifts)
    ```

    Args:
        model: A `keras.Model` with one output, or a callable
            `inputs -> outputs`.
        x: Inputs, as in `predict_logits`. Their labels are not used. Of
            sequences every position counts, padded ones too.
        prior: The frequency of each class: positive numbers that sum to 1.
            Defaults to `None`: all classes alike.
        batch_size: Integer, for arrays and datasets without batches. Defaults
            to `None`: 128 for arrays.
        from_logits: Whether the outputs are logits (`True`, the default) or
            probabilities, where no softmax can be found in the model.
        verbose: `0`, `1`, `2` or `"auto"`, as in `keras.Model.predict`.

    Returns:
        Float array of shape `(classes,)`, in nats, which `shift_class_bias`
        takes.

    Raises:
        ValueError: If the prior is not of the kind above, there is no input
            or only one class, or the logits are not finite.
        RuntimeError: If no such biases are found.
    """
    from scipy import optimize
    from scipy.special import logsumexp
    from scipy.special import softmax

    logits = predict_logits(
        model, x, batch_size, from_logits=from_logits, verbose=verbose
    )
    logits = np.float64(logits).reshape(-1, logits.shape[-1])
    if not np.isfinite(logits).all():
        raise ValueError(
            "Expected a model with finite logits. Received: NaN or infinity "
            f"from {model!r}"
        )
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(
            "Expected a model with a logit for each of several classes. "
            f"Received: {classes} from {model!r}"
        )
    prior = _check_prior(prior, classes)

    def evaluate(shifts):
        shifted = logits + shifts
        value = np.mean(logsumexp(shifted, axis=-1)) - prior @ shifts
        return value, np.mean(softmax(shifted, axis=-1), axis=0) - prior

    # Where a model says so seldom what should be frequent, this is near.
    start = np.log(prior) - np.log(
        np.maximum(np.mean(softmax(logits, axis=-1), axis=0), 1e-12)
    )
    found = optimize.minimize(
        evaluate,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    # (`success` is also about a tolerance that no float has.)
    missed = float(np.max(np.abs(found.jac) / prior))
    if missed > _LARGEST_MISS:
        raise RuntimeError(
            "No class biases were found with which the mean probabilities are "
            f"the prior: they miss that of a class by {missed:.2g} of it. Are "
            f"the logits too far apart? Received: prior={prior}"
        )
    return found.x - np.median(found.x)


def _find_output_layer(model):
    """Returns the layer whose bias is added to the logits of a model."""
    layer = model
    while isinstance(layer, keras.Model):
        if len(getattr(layer, "outputs", None) or []) != 1:
            raise ValueError(
                "Expected a model with one output that was built with "
                "`keras.Sequential` or from `keras.Input`. "
                f"Received: {layer!r}"
            )
        layer, inputs = find_origin(layer.outputs[0])
        while _only_activation(layer):
            layer, inputs = find_origin(inputs[0])
    bias = getattr(layer, "bias", None)
    activation = getattr(layer, "activation", None)
    if (
        bias is None
        or len(bias.shape) != 1
        or not _is_linear_or_softmax(activation)
    ):
        raise ValueError(
            "Expected a model that ends in a layer with a bias for each class, "
            "such as `keras.layers.Dense(classes)`, with or without a softmax "
            "behind it and no other activation. Received: a model that ends "
            f"in {layer!r}"
        )
    return layer


def _only_activation(layer):
    """Whether a layer does nothing but a softmax, or nothing at all."""
    return is_softmax(layer) or (
        isinstance(layer, keras.layers.Activation)
        and _is_linear_or_softmax(layer.activation)
    )


def _is_linear_or_softmax(activation):
    return activation in (
        None,
        keras.activations.linear,
    ) or is_softmax_function(activation)


def _to_array(shifts, classes):
    """Returns one shift for each class."""
    if not isinstance(shifts, dict):
        if np.shape(shifts) != (classes,):
            raise ValueError(
                f"Expected `shifts` to be {classes} numbers, one for each "
                f"class, or a dict. Received: shifts={shifts!r}"
            )
        shifts = dict(enumerate(np.asarray(shifts).tolist()))
    array = np.zeros(classes)
    for label, shift in shifts.items():
        if (
            isinstance(label, bool)
            or not isinstance(label, (int, np.integer))
            or not 0 <= label < classes
        ):
            raise ValueError(
                f"Expected the keys of `shifts` to be classes from 0 to "
                f"{classes - 1}. Received: {label!r}"
            )
        array[label] = check_number("shifts", shift, low=-np.inf)
    return array


def _check_prior(prior, classes):
    if prior is None:
        return np.full(classes, 1.0 / classes)
    try:
        frequencies = np.asarray(prior, "float64")
    except (TypeError, ValueError):
        frequencies = np.empty(0)
    if (
        frequencies.shape != (classes,)
        or not np.all(frequencies > 0)
        or abs(frequencies.sum() - 1) > 1e-6
    ):
        raise ValueError(
            f"Expected `prior` to be {classes} positive numbers that sum to "
            f"1, one for each class. Received: prior={prior!r}"
        )
    return frequencies / frequencies.sum()

import functools
import typing

import keras
import numpy as np
from keras import ops

from keras_distill.backend import add_control_dependency
from keras_distill.backend import is_concrete
from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import set_keras_mask
from keras_distill.forward import Forward
from keras_distill.forward import forward_teacher
from keras_distill.forward import list_outputs
from keras_distill.targets import LOG_SMALLEST
from keras_distill.targets import LOG_ZERO
from keras_distill.targets import count_classes
from keras_distill.targets import flatten_like
from keras_distill.targets import is_float
from keras_distill.targets import log_softmax
from keras_distill.targets import subtract_maximum
from keras_distill.targets import to_logits
from keras_distill.validation import check_choice
from keras_distill.validation import check_flag
from keras_distill.validation import check_integer
from keras_distill.validation import check_number
from keras_distill.validation import shapes_agree

_COMBINATIONS = ("arithmetic", "geometric")


def add_to_arithmetic_mean(total, logits, weight, temperature=1.0, axis=-1):
    """Adds one member to the mean of the softmaxes of an ensemble.

    With the logits `v_k` of the members, their weights `w_k` and the
    temperature T, the mean has the logits

        v = T * log(sum_k w_k softmax(v_k / T))

    so `softmax(v / T)` is the arithmetic mean of the members' soft targets
    (Hinton, Vinyals and Dean, 2015, section 2: "the arithmetic or geometric
    mean of their individual predictive distributions"). The sum is computed
    from logarithms, so small probabilities do not underflow.

    `total` is the result for the members so far, or `None` for the first.
    """
    weight = ops.cast(weight, logits.dtype)
    log_weight = ops.cast(to_logits(weight, LOG_ZERO), logits.dtype)
    # All members may give a class a probability of 0.
    log_probabilities = ops.maximum(
        log_softmax(logits, temperature, axis), LOG_ZERO
    )
    weighted = temperature * (log_probabilities + log_weight)
    if total is None:
        return weighted
    larger = ops.maximum(total, weighted)
    difference = ops.abs(total - weighted) / temperature
    return larger + temperature * ops.log1p(ops.exp(-difference))


def add_to_geometric_mean(total, logits, weight, axis=-1):
    """Adds one member to the geometric mean of the softmaxes of an ensemble.

    With the logits `v_k` of the members and their weights `w_k`, the mean has
    the logits

        v = sum_k w_k (v_k - max v_k)

    At every temperature `softmax(v / T)` is proportional to
    `prod_k softmax(v_k / T)^w_k` (Hinton, Vinyals and Dean, 2015, section 2).
    """
    # The sum of large logits would lose their digits.
    shifted = ops.maximum(subtract_maximum(logits, axis), LOG_ZERO)
    weighted = ops.cast(weight, logits.dtype) * shifted
    return weighted if total is None else total + weighted


@keras.saving.register_keras_serializable(package="keras_distill")
class Ensemble(keras.Model):
    """Averages the predictions of several models, as the paper's teacher does.

    The output is a tensor of logits, or a list or dict of logits if the members
    have several outputs. The softmax of the logits is the mean of the members'
    probabilities, so compile an `Ensemble` with `from_logits=True`. Members
    may end in `keras.layers.Softmax`, `activation="softmax"` or
    `TemperatureSoftmax`. The ensemble then uses the logits before the softmax.

    In a `Distiller`, the softmax of the logits at the temperature of the
    distillation loss is the mean of the members' softmaxes at this temperature
    (Hinton, Vinyals and Dean, 2015, section 2). The members run one after
    another, and only the running mean stays in memory.

    Example:

    ```python
    ensemble = keras_distill.Ensemble([first, second])
    ensemble.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ensemble.evaluate(x_test, y_test)
    distiller = keras_distill.Distiller(student=student, teacher=ensemble)
    ```

    Args:
        models: List of `keras.Model`, or of callables `inputs -> outputs` if
            you do not save the ensemble. All members take the same inputs and
            have outputs of the same shapes. A member can be an `Ensemble`.
        combine: `"arithmetic"`, the mean of the probabilities, or
            `"geometric"`, the mean of their logarithms, normalized. Defaults
            to `"arithmetic"`.
        weights: Weights of the members: a list of numbers, at least 0, that
            sum to 1; or a callable `inputs -> weights` that returns weights for
            each sample, in the shape `(batch, members)`. Defaults to `None`,
            which means equal weights.
        from_logits: Whether members without a recognizable softmax output
            logits (`True`, the default) or probabilities.
        axis: Integer, the axis of the classes. Defaults to `None`, which means
            the axis of the distillation loss, or of the ensemble that contains
            this one, or the last axis if there is neither.
        name: Optional name of the model.

    Returns:
        Logits, in the shapes of a member's outputs.

    Raises:
        ValueError: If an argument is not of the kind above, or the members'
            outputs do not match.
    """

    def __init__(
        self,
        models,
        combine="arithmetic",
        weights=None,
        from_logits=True,
        axis=None,
        name=None,
    ):
        _check_members(models)
        check_flag("from_logits", from_logits)
        check_choice("combine", combine, _COMBINATIONS)
        is_given = weights is not None
        if is_given and (isinstance(weights, type) or not callable(weights)):
            weights = _check_weights(weights, len(models))
        super().__init__(name=name, autocast=False)
        self.models = list(models)
        self.combine = combine
        self.member_weights = weights
        self.from_logits = from_logits
        self.axis = None if axis is None else check_integer("axis", axis)
        if all(getattr(model, "inputs", None) for model in models):
            # A symbolic call checks the outputs, and prepares `export`.
            inputs = getattr(models[0], "input", models[0].inputs[0])
            self(
                keras.tree.map_structure(
                    lambda x: keras.KerasTensor(x.shape, x.dtype), inputs
                )
            )

    @property
    def averages_at_a_temperature(self):
        """Whether the logits hold only at one temperature."""
        return self.combine == "arithmetic" or any(
            model.averages_at_a_temperature
            for model in self.models
            if isinstance(model, Ensemble)
        )

    def build(self, input_shape):
        for model in self.models:
            if not getattr(model, "built", True):
                model.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self._compute_logits(inputs)

    def _compute_logits(
        self,
        inputs,
        temperature=1.0,
        from_logits=None,
        inspect=None,
        axis=None,
    ):
        """Returns the logits of the mean of all members at a temperature."""
        # `temperature` and `axis` may be functions from the outputs of a member
        # to a list with an entry for each output.
        if from_logits is None:
            from_logits = self.from_logits
        if axis is None:
            axis = self._list_own_axes
        means: list = []
        first: typing.Any = None
        # A network of weights may be random: it runs once.
        weights = self._compute_weights(inputs)
        for position, model in enumerate(self.models):
            # Otherwise the activations of all members are in memory at once.
            delayed = add_control_dependency(means, inputs)
            # Members of ensembles are averaged at the same temperature.
            member = call_model(
                model, delayed, temperature=temperature, axis=axis
            )
            if first is None:
                first = member
                count = len(member.logits)
                means = [None] * count
                temperatures = (
                    temperature(member.outputs)
                    if callable(temperature)
                    else [temperature] * count
                )
                requested = axis(member.outputs)
            outputs = flatten_like(
                first.outputs, member.outputs, "outputs_of_a_member"
            )
            axes = list(map(self._find_axis, requested, outputs))
            for number, output in enumerate(outputs):
                if not is_float(output):
                    raise ValueError(
                        "Expected floating point outputs of each member. "
                        f"Received: dtype={output.dtype} of member {position}. "
                        "Does this member return class ids?"
                    )
                means[number] = self._add(
                    weights[position],
                    means[number],
                    member.find_logits(
                        number,
                        from_logits,
                        LOG_SMALLEST,
                        inspect
                        and functools.partial(inspect, axis=axes[number]),
                    ),
                    temperatures[number],
                    axes[number],
                )
        for mean, mask in zip(means, first.mask, strict=True):
            set_keras_mask(mean, mask)
        return keras.tree.pack_sequence_as(first.outputs, means)

    def _list_own_axes(self, outputs):
        return [self.axis for _ in keras.tree.flatten(outputs)]

    def _find_axis(self, requested, output):
        """Returns the axis of the classes of an output."""
        if self.axis is None:
            return -1 if requested is None else requested
        rank = len(output.shape)
        if requested is not None and requested % rank != self.axis % rank:
            raise ValueError(
                "Expected the `axis` of an `Ensemble` to equal the axis of the "
                "distillation loss, and of the ensemble that contains it. "
                f"Received: axis={self.axis} instead of {requested}, for "
                f"outputs of shape {tuple(output.shape)}"
            )
        return self.axis

    def _add(self, weight, mean, logits, temperature, axis):
        """Adds one output of one member to the running mean."""
        logits = ops.cast(logits, keras.config.floatx())
        count_classes(logits.shape, axis)
        if callable(self.member_weights):
            rank = len(logits.shape)
            weight = ops.reshape(weight, (-1,) + (1,) * (rank - 1))
        if self.combine == "geometric":
            return add_to_geometric_mean(mean, logits, weight, axis)
        temperature = ops.cast(temperature, logits.dtype)
        return add_to_arithmetic_mean(mean, logits, weight, temperature, axis)

    def _compute_weights(self, inputs):
        """Returns the weights of the members, numbers or of shape (batch,)."""
        count = len(self.models)
        if self.member_weights is None:
            return [1.0 / count] * count
        if callable(self.member_weights):
            weights = _check_computed(self.member_weights(inputs), count)
            return ops.unstack(weights, count, axis=1)
        return self.member_weights

    def get_config(self):
        if callable(self.member_weights) or not all(
            isinstance(model, keras.Model) for model in self.models
        ):
            raise NotImplementedError(
                "An `Ensemble` can be saved only if its members are "
                "`keras.Model`s and its `weights` are numbers. Received: "
                f"models={self.models}, weights={self.member_weights}"
            )
        return {
            "name": self.name,
            "models": [
                keras.saving.serialize_keras_object(model)
                for model in self.models
            ],
            "combine": self.combine,
            "weights": self.member_weights,
            "from_logits": self.from_logits,
            "axis": self.axis,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        models = [
            keras.saving.deserialize_keras_object(
                model, custom_objects=custom_objects
            )
            for model in config["models"]
        ]
        return cls(**{**config, "models": models})


def call_model(model, inputs, **arguments) -> Forward:
    """Runs a model, a function, or an ensemble, once."""
    if not isinstance(model, Ensemble):
        return forward_teacher(model, inputs)
    outputs = model._compute_logits(inputs, **arguments)
    logits = tuple(keras.tree.flatten(outputs))
    return Forward(outputs, logits, {}, tuple(map(get_keras_mask, logits)))


def has_known_weights(model) -> bool:
    """Whether the outputs depend only on weights of Keras layers."""
    if not isinstance(model, Ensemble):
        return isinstance(model, keras.layers.Layer)
    weights = model.member_weights
    is_function = callable(weights) and not isinstance(
        weights, keras.layers.Layer
    )
    return not is_function and all(map(has_known_weights, model.models))


def _check_members(models) -> None:
    if not isinstance(models, (list, tuple)) or not models:
        raise ValueError(
            "Expected `models` to be a list of at least one model. "
            f"Received: models={models!r}"
        )
    for model in models:
        if isinstance(model, type) or not callable(model):
            raise ValueError(
                "Expected each of `models` to be a `keras.Model` or a "
                f"callable. Received: {model!r}"
            )
    known = list(filter(list_outputs, models))
    for model in known[1:]:
        check_same_outputs(known[0], model, "all members")


def check_same_outputs(first, second, owners: str) -> None:
    """Raises a `ValueError` if models have known and different outputs."""
    received, expected = [
        [tuple(output.shape) for output in list_outputs(model)]
        for model in (first, second)
    ]
    if not received or not expected:
        return
    if len(received) != len(expected) or not all(
        map(shapes_agree, received, expected)
    ):
        raise ValueError(
            f"Expected the outputs of {owners} to have the same shapes, with "
            "the same number of classes. "
            f"Received: {received} and {expected}"
        )


def _check_weights(weights, count: int) -> list[float]:
    """Returns the weights as a list of floats."""
    if not isinstance(weights, (list, tuple, np.ndarray)) or not np.ndim(
        weights
    ):
        raise ValueError(
            f"Expected `weights` to be a list of {count} numbers, or a "
            f"callable. Received: weights={weights!r}"
        )
    weights = [check_number("weights", weight, low=0) for weight in weights]
    if len(weights) != count or abs(sum(weights) - 1.0) > 1e-6:
        raise ValueError(
            f"Expected `weights` to be {count} numbers that sum to 1, one for "
            f"each model. Received: weights={weights}"
        )
    return weights


def _check_computed(weights, count: int):
    """Returns computed weights, with NaN where they do not sum to 1."""
    weights = ops.convert_to_tensor(weights)
    shape = tuple(weights.shape)
    if len(shape) != 2 or shape[1] != count or not is_float(weights):
        raise ValueError(
            "Expected callable `weights` to return floats of shape (batch, "
            f"{count}), one for each model. Received: shape {shape}, dtype "
            f"{keras.backend.standardize_dtype(weights.dtype)}"
        )
    sums = ops.sum(weights, axis=1, keepdims=True)
    valid = ops.abs(sums - 1.0) <= 1e-2
    if is_concrete(valid) and not ops.all(valid):
        raise ValueError(
            "Expected callable `weights` to sum to 1 for each sample. "
            f"Received: sums from {float(ops.min(sums)):g} to "
            f"{float(ops.max(sums)):g}"
        )
    return ops.where(valid, weights, float("nan"))

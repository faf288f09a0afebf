"""Which distillation losses apply to which outputs, with which weights."""

import typing

import keras
from keras import ops

from keras_distill.identifiers import number_names
from keras_distill.identifiers import replace_identifiers
from keras_distill.losses import DistillationLoss
from keras_distill.losses import get
from keras_distill.outputs import name_outputs
from keras_distill.outputs import spread
from keras_distill.soft_targets import EnsembleTargets
from keras_distill.validation import check_number


class Term(typing.NamedTuple):
    """One distillation loss on one output."""

    output: int
    loss: DistillationLoss
    weight: float


class Distillation:
    """The distillation losses of `compile`, for each output of the student.

    One loss applies to every output. With one output, a list is several losses
    on it; with several, a list or dict has an entry for each output, which is
    a loss, a list of losses, or `None` for an output that is not distilled.

    Args:
        losses: A `DistillationLoss`, its name, or a list or dict as above.
        weights: Numbers in the same structure, or `None` for 1 everywhere.

    Raises:
        ValueError: If an entry is no distillation loss, or one of each
            sample, there is none, or the weights do not match the losses.
    """

    def __init__(self, losses, weights=None):
        self.losses = replace_identifiers(losses, get)
        self.weights = weights
        if all(loss is None for loss in keras.tree.flatten(self.losses)):
            raise ValueError(
                "Expected at least one loss in `distillation_loss`. "
                f"Received: distillation_loss={losses!r}"
            )
        for loss in keras.tree.flatten(self.losses):
            if loss is not None and loss.reduction in (None, "none"):
                raise ValueError(
                    "Expected each `distillation_loss` to be a single number: "
                    "use its default `reduction`. Received: "
                    f"{type(loss).__name__} with reduction={loss.reduction!r}"
                )
        _check_weights(self.losses, weights)

    def terms(self, output_names):
        """Lists every loss with its output and weight.

        Args:
            output_names: One name for each output of the student, in flat
                order.

        Returns:
            List of `Term`, in the order of the outputs.

        Raises:
            ValueError: If the losses do not fit the outputs.
        """
        losses = spread(self.losses, output_names, "distillation_loss")
        weights = spread(
            self.weights, output_names, "distillation_loss_weights"
        )
        return [
            Term(output, loss, weight)
            for output in range(len(output_names))
            for loss, weight in _pair(losses[output], weights[output])
        ]

    def temperatures(self, output_names):
        """Returns the temperature of each output's soft targets.

        Args:
            output_names: As in `terms`.

        Returns:
            List of a scalar variable for each output, or 1.0 where no loss has
            a temperature.

        Raises:
            ValueError: If the losses of an output have different ones.
        """
        by_output: list[dict] = [{} for _ in output_names]
        for output, loss, _ in self.terms(output_names):
            if hasattr(loss, "temperature_variable"):
                by_output[output][loss.temperature] = loss.temperature_variable
        for variables in by_output:
            if len(variables) > 1:
                raise ValueError(
                    "An ensemble is averaged at the temperature of the "
                    "distillation loss, so all losses of an output need the "
                    f"same `temperature`. Received: {sorted(variables)}"
                )
        return [next(iter(each.values()), 1.0) for each in by_output]

    def axes(self, output_names):
        """Returns the axis of the classes of each output.

        Args:
            output_names: As in `terms`.

        Returns:
            List of integers, with `None` where there is no loss.

        Raises:
            ValueError: If the losses of an output have different ones.
        """
        by_output: list[set] = [set() for _ in output_names]
        for output, loss, _ in self.terms(output_names):
            by_output[output].add(loss.axis)
        for axes in by_output:
            if len(axes) > 1:
                raise ValueError(
                    "With several teachers all distillation losses of an "
                    f"output need the same `axis`. Received: {sorted(axes)}"
                )
        return [next(iter(each), None) for each in by_output]

    def all_axes(self):
        """Returns the axes of all losses."""
        losses = keras.tree.flatten(self.losses)
        return tuple(loss.axis for loss in losses if loss is not None)

    def with_temperatures(self, soft_targets, output_names):
        """Notes on an ensemble's means at which temperature they hold.

        Args:
            soft_targets: Logits in the structure of the student's outputs,
                averaged at the `temperatures`.
            output_names: Names that the model gives, or `None`.

        Returns:
            `EnsembleTargets` in the same structure.
        """
        names = name_outputs(soft_targets, output_names)
        noted = [
            EnsembleTargets(
                logits, ops.reshape(ops.cast(temperature, "float32"), (1, 1))
            )
            for logits, temperature in zip(
                keras.tree.flatten(soft_targets),
                self.temperatures(names),
                strict=True,
            )
        ]
        return keras.tree.pack_sequence_as(soft_targets, noted)

    def variables(self):
        """Lists the variables that hold the temperatures."""
        return [
            loss.temperature_variable
            for loss in keras.tree.flatten(self.losses)
            if hasattr(loss, "temperature_variable")
        ]

    def present_temperatures(self):
        """Returns the temperatures of all losses that have one."""
        return tuple(
            loss.temperature
            for loss in keras.tree.flatten(self.losses)
            if hasattr(loss, "temperature")
        )

    def named_temperatures(self):
        """Returns the temperatures, by the names they have in the logs."""
        losses = [
            loss
            for loss in keras.tree.flatten(self.losses)
            if hasattr(loss, "temperature")
        ]
        if len(losses) == 1:
            return {"temperature": losses[0].temperature}
        names = number_names(loss.name for loss in losses)
        return {
            f"{name}_temperature": loss.temperature
            for name, loss in zip(names, losses, strict=True)
        }

    @property
    def teacher_from_logits(self):
        """The one `teacher_from_logits` that all losses have in common."""
        losses = keras.tree.flatten(self.losses)
        flags = {loss.teacher_from_logits for loss in losses if loss}
        if len(flags) > 1:
            raise ValueError(
                "With a list of teachers all distillation losses need the "
                f"same `teacher_from_logits`. Received: {sorted(flags)}"
            )
        return flags.pop()


def _check_weights(losses, weights):
    if weights is None:
        return
    try:
        keras.tree.assert_same_structure(
            keras.tree.lists_to_tuples(losses),
            keras.tree.lists_to_tuples(weights),
        )
    except (ValueError, TypeError):
        raise ValueError(
            "Expected `distillation_loss_weights` to have the structure of "
            f"`distillation_loss`, {len(keras.tree.flatten(losses))} "
            "number(s) in all. "
            f"Received: distillation_loss_weights={weights!r}"
        ) from None
    for loss, weight in zip(
        keras.tree.flatten(losses), keras.tree.flatten(weights), strict=True
    ):
        if loss is not None:
            check_number("distillation_loss_weights", weight, low=0)


def _pair(losses, weights):
    """Lists the `(loss, weight)` pairs of one output."""
    losses = keras.tree.flatten(losses)
    weights = (
        [1.0] * len(losses) if weights is None else keras.tree.flatten(weights)
    )
    return [
        (loss, float(weight))
        for loss, weight in zip(losses, weights, strict=True)
        if loss is not None
    ]

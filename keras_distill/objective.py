"""The loss that a `Distiller` minimizes, and the values that it logs."""

import collections
import functools
import inspect
import typing

import keras
from keras import ops

from keras_distill.backend.keras_compat import MetricsList
from keras_distill.backend.keras_compat import unscale_loss_for_distribution
from keras_distill.forward import Forward
from keras_distill.hyperparameter import Hyperparameter
from keras_distill.identifiers import number_names
from keras_distill.identifiers import replace_identifiers
from keras_distill.losses import DistillationLoss
from keras_distill.losses import get as get_loss
from keras_distill.metrics import get as get_metric
from keras_distill.outputs import broadcast_to_outputs
from keras_distill.outputs import name_outputs
from keras_distill.step_check import WRONG_TARGETS
from keras_distill.targets import flatten_like
from keras_distill.validation import check_number

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# The names that a `Distiller` logs itself.
_RESERVED = ("loss", "soft_loss", "hard_loss", "alpha", "temperature")


class Term(typing.NamedTuple):
    """One distillation loss on one output."""

    output: int
    loss: DistillationLoss
    weight: float
    temperature: typing.Any


class Objective:
    """The terms of the loss, their weights, and the metrics that track them.

    One distillation loss applies to every output. With one output, a list means
    several losses on it. With several outputs, a list or dict has an entry for
    each output: a loss, a list of losses, or `None`. Metrics work the same way.
    """

    def __init__(
        self,
        losses,
        *,
        weights=None,
        alpha=None,
        has_hard_loss=False,
        metrics=None,
    ):
        self.losses = replace_identifiers(losses, get_loss)
        self.weights = weights
        _check_losses(self.losses, losses)
        _check_weights(self.losses, weights)
        self.has_hard_loss = has_hard_loss
        if alpha is None:
            alpha = 0.9 if has_hard_loss else 1.0
        self.alpha = Hyperparameter("alpha", alpha, self._check_alpha)
        self.given_metrics = replace_identifiers(metrics, get_metric)
        self.has_metrics = any(
            metric is not None
            for metric in keras.tree.flatten(self.given_metrics)
        )
        self.terms: typing.Any = None
        self.output_names: typing.Any = None
        # Output, metric, and the loss that has the metric's default flags.
        self.metrics: list[tuple] = []
        self.tracker: typing.Any = None
        self._listed_metrics: typing.Any = None
        # Created now: to create them in a compiled step causes a retrace.
        self.alpha_variable, *_ = self.variables()

    # ---- Outside of steps

    @property
    def built(self) -> bool:
        """Whether the student's outputs are known."""
        return self.terms is not None

    def build(self, output_names) -> None:
        """Assigns losses and metrics to the outputs, once they are known."""
        if self.built or output_names is None:
            return
        terms = self.list_terms(output_names)
        first_losses = {term.output: term.loss for term in reversed(terms)}
        self.metrics = [
            (output, metric, first_losses.get(output) or DistillationLoss())
            for output, metric in _assign_metrics(
                self.given_metrics, output_names
            )
        ]
        listed = [metric for _, metric, _ in self.metrics]
        term_names = _name_terms(terms, output_names)
        _check_names([*term_names, *(metric.name for metric in listed)])
        self._listed_metrics = MetricsList(listed)
        self.tracker = LossTracker(term_names)
        self.output_names = output_names
        self.terms = terms

    def list_terms(self, output_names: list) -> list[Term]:
        """Lists every loss with its output and weight."""
        weights = self.weights
        if weights is None:
            weights = keras.tree.map_structure(lambda loss: 1.0, self.losses)
        by_output = zip(
            broadcast_to_outputs(
                self.losses, output_names, "distillation_loss"
            ),
            broadcast_to_outputs(
                weights, output_names, "distillation_loss_weights"
            ),
            strict=True,
        )
        return [
            Term(output, loss, float(weight), loss.temperature_variable)
            for output, entries in enumerate(by_output)
            for loss, weight in zip(
                *map(keras.tree.flatten, entries), strict=True
            )
            if loss is not None
        ]

    def _check_alpha(self, argument, value) -> float:
        alpha = check_number(argument, value, low=0, high=1)
        if alpha != 1 and not self.has_hard_loss:
            raise ValueError(
                "Without a hard loss (`loss=None`) there is only the soft "
                "loss, and `alpha` has to be 1. "
                f"Received: {argument}={value!r}, loss=None"
            )
        return alpha

    def list_losses(self) -> list[DistillationLoss]:
        """Lists the losses, in the order of `compile`."""
        losses = keras.tree.flatten(self.losses)
        return [loss for loss in losses if loss is not None]

    def list_metrics(self) -> list:
        """Lists what Keras has to reset and to pass into a step."""
        if self.tracker is None:
            return []
        metrics = (metric for _, metric, _ in self.metrics)
        # Callbacks of Keras look for the direction of a metric in a list.
        return [self.tracker, *metrics, self._listed_metrics]

    def _list_soft_losses(self) -> list[DistillationLoss]:
        """Lists the losses that have a temperature."""
        losses = self.list_losses()
        return [loss for loss in losses if loss.temperature is not None]

    def variables(self) -> list:
        """Lists the variables that hold alpha and the temperatures."""
        losses = self._list_soft_losses()
        temperatures = [loss.temperature_variable for loss in losses]
        return [self.alpha.variable, *temperatures]

    def temperatures(self) -> tuple:
        """Returns the temperatures of all losses that have one."""
        return tuple(loss.temperature for loss in self._list_soft_losses())

    def metric_temperatures(self) -> list[tuple]:
        """Lists the metrics with a temperature: name, its T, and the loss's."""
        losses = {
            term.output: term.loss.temperature
            for term in self.terms or ()
            if term.loss.temperature is not None
        }
        return [
            (metric.name, metric.temperature, losses.get(output, 1.0))
            for output, metric, _ in self.metrics
            if hasattr(metric, "temperature")
        ]

    def hyperparameters(self) -> dict:
        """Returns alpha and the temperatures by their names in the logs."""
        values = {"alpha": self.alpha.value} if self.has_hard_loss else {}
        losses = self._list_soft_losses()
        if len(losses) == 1:
            return {**values, "temperature": losses[0].temperature}
        names = number_names(loss.name for loss in losses)
        for name, loss in zip(names, losses, strict=True):
            values[f"{name}_temperature"] = loss.temperature
        return values

    def ensemble_temperatures(self, outputs=None) -> list:
        """Returns the temperature at which to average each output."""
        losses = self._find_common("temperature", outputs)
        return [loss.temperature_variable if loss else 1.0 for loss in losses]

    def ensemble_axes(self, outputs) -> list:
        """Returns the axis of the classes of each output, or `None`."""
        return [
            loss and loss.axis for loss in self._find_common("axis", outputs)
        ]

    def _find_common(self, name: str, outputs) -> list:
        """Returns a loss of each output, where all losses agree on `name`."""
        output_names = self.output_names or name_outputs(outputs)
        by_output: list[dict] = [{} for _ in output_names]
        for output, loss, *_ in self.list_terms(output_names):
            if getattr(loss, name) is not None:
                by_output[output][getattr(loss, name)] = loss
        for values in by_output:
            if len(values) > 1:
                raise ValueError(
                    "With several teachers, all distillation losses of an "
                    f"output need the same `{name}`. "
                    f"Received: {sorted(values)}"
                )
        return [next(iter(values.values()), None) for values in by_output]

    def teacher_from_logits(self) -> bool:
        """Returns the one `teacher_from_logits` of all losses."""
        flags = {loss.teacher_from_logits for loss in self.list_losses()}
        if len(flags) > 1:
            raise ValueError(
                "With a list of teachers all distillation losses need the "
                f"same `teacher_from_logits`. Received: {sorted(flags)}"
            )
        return flags.pop()

    # ---- Inside of a step

    def compute_soft_loss(self, student, sample_weight, check):
        """Returns the sum of the terms, and a list of the unweighted terms."""
        weights = _flatten_weights(student, sample_weight)
        total: typing.Any = None
        values = []
        for output, loss, weight, temperature in self.terms:
            target = student.targets[output]
            logits = student.find_logits(
                output,
                loss.from_logits,
                loss.student_log_zero,
                "student" in check.inspected
                and functools.partial(check.inspect, "student", axis=loss.axis),
            )
            if "teacher" in check.inspected and loss.teacher_from_logits:
                raw = target.raw_outputs()
                if raw is not None:
                    check.inspect("teacher", raw, loss.axis)
            value = loss.reduce(
                loss.compute_values(target, logits, temperature),
                weights[output],
                student.mask[output],
            )
            # The shapes agree: otherwise there was an error.
            valid = target.are_valid_at(temperature, logits.shape[loss.axis])
            value = ops.cast(value, keras.config.floatx())
            if valid is not True:
                check.flag(WRONG_TARGETS, ops.logical_not(valid))
                value = ops.where(valid, value, 0.0)
            values.append(value)
            if weight != 1:
                value = weight * value
            total = value if total is None else total + value
        return total, values

    def update_metrics(self, student, sample_weight, check) -> None:
        """Adds a batch to the `distillation_metrics`."""
        weights = _flatten_weights(student, sample_weight)
        for output, metric, loss in self.metrics:
            target = student.targets[output]
            if metric.teacher_from_logits is None:
                target = target.to_logits(
                    loss.teacher_from_logits, loss.teacher_log_zero
                )
            from_logits = metric.from_logits
            if from_logits is None:
                from_logits = loss.from_logits
            logits = student.find_logits(
                output, from_logits, loss.student_log_zero
            )
            metric.update(target, logits, weights[output], student.mask[output])
            valid = metric.are_valid_targets(target, logits.shape[metric.axis])
            if valid is not True:
                check.flag(WRONG_TARGETS, ops.logical_not(valid))

    def results(self) -> dict:
        """Returns the present means, by their names in the logs."""
        if not self.built:
            return {}
        logs = self.tracker.result()
        if not self.has_hard_loss:
            del logs["hard_loss"]
        for _, metric, _ in self.metrics:
            logs[metric.name] = metric.result()
        return logs

    def soft_target_log_names(self) -> list:
        """Returns the names in the logs that need soft targets."""
        if not self.built:
            return []
        names = [name for name in self.tracker.names if name != "hard_loss"]
        return names + [metric.name for _, metric, _ in self.metrics]


class LossTracker(keras.metrics.Metric):
    """Means of the soft loss, the hard loss and the single terms."""

    def __init__(self, term_names: list):
        super().__init__(name="losses")
        self.names = ["soft_loss", "hard_loss", *term_names]
        # The sums of the losses, and the weights of these sums.
        shape = (2 * len(self.names),)
        self.sums = self.add_variable(shape, "zeros", name="sums")

    def update_state(self, soft, terms, hard, batch_size):
        """Adds the losses of a batch; `None` where there is none."""
        values = [soft, hard]
        if len(self.names) > 2:
            values += terms or [None] * (len(self.names) - 2)
        present = []
        for position, value in enumerate(values):
            present.append(0.0 if value is None else 1.0)
            values[position] = (
                0.0
                if value is None
                else ops.cast(unscale_loss_for_distribution(value), self.dtype)
            )
        weight = ops.cast(batch_size, self.dtype)
        self.sums.assign_add(ops.stack([*values, *present]) * weight)

    def result(self):
        totals, weights = ops.split(ops.convert_to_tensor(self.sums), 2)
        means = ops.divide_no_nan(totals, weights)
        return dict(zip(self.names, ops.unstack(means), strict=True))


def _flatten_weights(student: Forward, sample_weight) -> list:
    """Returns the sample weights of each output."""
    if keras.tree.is_nested(sample_weight):
        return flatten_like(student.outputs, sample_weight, "sample_weight")
    return [sample_weight] * len(student.targets)


def _name_terms(terms, output_names) -> list:
    """Returns the names of the terms in the logs, if there are several."""
    if len(terms) == 1:
        return []
    prefixes = [f"{name}_" for name in output_names]
    if len(output_names) == 1:
        prefixes = [""]
    return number_names(
        prefixes[term.output] + term.loss.name for term in terms
    )


def _check_losses(losses, given) -> None:
    if all(loss is None for loss in keras.tree.flatten(losses)):
        raise ValueError(
            "Expected at least one loss in `distillation_loss`. "
            f"Received: distillation_loss={given!r}"
        )
    for loss in keras.tree.flatten(losses):
        if loss is not None and loss.reduction in (None, "none"):
            raise ValueError(
                "Expected each `distillation_loss` to be a single number: use "
                "its default `reduction`. Received: "
                f"{type(loss).__name__} with reduction={loss.reduction!r}"
            )


def _check_weights(losses, weights) -> None:
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


def _assign_metrics(given, output_names) -> list[tuple]:
    """Returns pairs of an output and a metric."""
    entries = broadcast_to_outputs(given, output_names, "distillation_metrics")
    pairs = [
        (output, metric)
        for output, entry in enumerate(entries)
        for metric in keras.tree.flatten(entry)
        if metric is not None
    ]
    if len(output_names) == 1:
        return pairs
    # Several outputs may have the same object.
    return [
        (output, _copy(metric, f"{output_names[output]}_{metric.name}"))
        for output, metric in pairs
    ]


def _copy(metric, name):
    """Returns a copy of a metric with another name."""
    config = metric.get_config()
    parameters = inspect.signature(type(metric)).parameters.values()
    unknown = [
        parameter.name
        for parameter in parameters
        if parameter.kind not in _VARIADIC and parameter.name not in config
    ]
    if unknown:
        raise ValueError(
            "With several outputs, `distillation_metrics` are copied for each "
            f"output: expected the `get_config` of {type(metric).__name__} to "
            f"have all arguments. Received: a config without {unknown}"
        )
    return type(metric).from_config({**config, "name": name})


def _check_names(names) -> None:
    """Raises if two entries of the logs have the same name."""
    counts = collections.Counter([*_RESERVED, *names])
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            "Expected distillation losses and `distillation_metrics` with "
            "different names: pass `name=...` to them. Received twice, or "
            f"reserved: {repeated}"
        )

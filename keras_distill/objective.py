"""What a `Distiller` minimizes and logs."""

import collections
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
from keras_distill.metrics import DistillationMetric
from keras_distill.metrics import get as get_metric
from keras_distill.outputs import flatten_like
from keras_distill.outputs import name_outputs
from keras_distill.outputs import spread
from keras_distill.step_check import DO_NOT_SERVE
from keras_distill.targets import TARGET_TYPES
from keras_distill.targets import to_logits
from keras_distill.validation import check_number

DEFAULT_ALPHA = 0.9
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

    Args:
        losses: A `DistillationLoss`, its name, or a list or dict as above.
        weights: Numbers in the same structure. `None` means 1 everywhere.
        alpha: Weight of the soft loss.
        has_hard_loss: Whether there is a hard loss as well.
        metrics: A `DistillationMetric`, its name, or a list or dict as above.

    Raises:
        ValueError: If an argument of `compile` is wrong.
    """

    def __init__(self, losses, weights, alpha, has_hard_loss, metrics):
        self.losses = replace_identifiers(losses, get_loss)
        self.weights = weights
        _check_losses(self.losses, losses)
        _check_weights(self.losses, weights)
        if not has_hard_loss and alpha == DEFAULT_ALPHA:
            alpha = 1.0
        self.alpha = Hyperparameter(
            "alpha", alpha, _check_alpha if has_hard_loss else _check_only_soft
        )
        self.has_hard_loss = has_hard_loss
        self.given_metrics = replace_identifiers(metrics, get_metric)
        self.has_metrics = any(
            metric is not None
            for metric in keras.tree.flatten(self.given_metrics)
        )
        self.terms: typing.Any = None
        self.output_names: typing.Any = None
        self.metrics: list[list] = []
        self.tracker: typing.Any = None
        self._listed_metrics: typing.Any = None
        # Before the first step, which cannot create them without a retrace.
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
        self.metrics = _spread_metrics(self.given_metrics, output_names)
        listed = [metric for metrics in self.metrics for metric in metrics]
        _check_names(listed)
        self._listed_metrics = MetricsList(listed)
        terms = self.list_terms(output_names)
        self.tracker = LossTracker(_name_terms(terms, output_names))
        self.output_names = output_names
        self.terms = terms

    def list_terms(self, output_names: list) -> list[Term]:
        """Lists every loss with its output and weight."""
        losses = spread(self.losses, output_names, "distillation_loss")
        weights = spread(
            self.weights, output_names, "distillation_loss_weights"
        )
        return [
            Term(output, loss, weight, loss.temperature_variable)
            for output in range(len(output_names))
            for loss, weight in _pair(losses[output], weights[output])
        ]

    def list_losses(self) -> list[DistillationLoss]:
        """Lists the losses, in the order of `compile`."""
        losses = keras.tree.flatten(self.losses)
        return [loss for loss in losses if loss is not None]

    def list_metrics(self) -> list:
        """Lists what Keras has to reset and to pass into a step."""
        if self.tracker is None:
            return []
        metrics = [metric for metrics in self.metrics for metric in metrics]
        # Callbacks of Keras look for the direction of a metric in a list.
        return [self.tracker, *metrics, self._listed_metrics]

    def variables(self) -> list:
        """Lists the variables that hold alpha and the temperatures."""
        variables = [self.alpha.variable]
        for loss in self.list_losses():
            if loss.temperature is not None:
                variables.append(loss.temperature_variable)
        return variables

    def temperatures(self) -> tuple:
        """Returns the temperatures of all losses that have one."""
        return tuple(
            loss.temperature
            for loss in self.list_losses()
            if loss.temperature is not None
        )

    def temperature_of_metrics(self) -> dict:
        """Returns the temperatures of metrics, by the metrics' names."""
        return {
            metric.name: metric.temperature
            for metrics in self.metrics
            for metric in metrics
            if hasattr(metric, "temperature")
        }

    def hyperparameters(self) -> dict:
        """Returns alpha and the temperatures by their names in the logs."""
        values = {"alpha": self.alpha.value} if self.has_hard_loss else {}
        losses = [
            loss for loss in self.list_losses() if loss.temperature is not None
        ]
        if len(losses) == 1:
            return {**values, "temperature": losses[0].temperature}
        names = number_names(loss.name for loss in losses)
        for name, loss in zip(names, losses, strict=True):
            values[f"{name}_temperature"] = loss.temperature
        return values

    def _find_names(self, outputs) -> list:
        """Returns the names of a teacher's outputs."""
        return self.output_names or name_outputs(outputs)

    def ensemble_temperatures(self, outputs) -> list:
        """Returns the temperature at which to average each output."""
        output_names = self._find_names(outputs)
        by_output: list[dict] = [{} for _ in output_names]
        for output, loss, *_ in self.list_terms(output_names):
            if loss.temperature is not None:
                by_output[output][loss.temperature] = loss.temperature_variable
        for variables in by_output:
            if len(variables) > 1:
                raise ValueError(
                    "An ensemble is averaged at the temperature of the "
                    "distillation loss, so all losses of an output need the "
                    f"same `temperature`. Received: {sorted(variables)}"
                )
        return [next(iter(each.values()), 1.0) for each in by_output]

    def check_ensemble_temperatures(self) -> None:
        """Refuses losses of one output that differ in their temperature."""
        # A callback may have changed one of them.
        if self.output_names is not None:
            self.ensemble_temperatures(None)

    def ensemble_axes(self, outputs) -> list:
        """Returns the axis of the classes of each output, or `None`."""
        output_names = self._find_names(outputs)
        by_output: list[set] = [set() for _ in output_names]
        for output, loss, *_ in self.list_terms(output_names):
            by_output[output].add(loss.axis)
        for axes in by_output:
            if len(axes) > 1:
                raise ValueError(
                    "With several teachers all distillation losses of an "
                    f"output need the same `axis`. Received: {sorted(axes)}"
                )
        return [next(iter(axes), None) for axes in by_output]

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

    def compute_soft_loss(self, by_output, student, sample_weight, check):
        """Returns the sum of the terms, and each of them without its weight.

        Args:
            by_output: The `Targets` of each output.
            student: `Forward` of the student.
            sample_weight: Weights of the samples, or `None`.
            check: `StepCheck`.
        """
        outputs, targets, weights = _align(student, by_output, sample_weight)
        total: typing.Any = None
        values = []
        for output, loss, weight, temperature in self.terms:
            target, logits = targets[output], student.logits[output]
            if logits is None:
                logits = outputs[output]
                if not loss.from_logits:
                    logits = to_logits(logits, loss.student_log_zero)
                elif "student" in check.inspected:
                    check.inspect("student", logits, loss.axis)
            if "teacher" in check.inspected and loss.teacher_from_logits:
                raw = target.raw_outputs()
                if raw is not None:
                    check.inspect("teacher", raw, loss.axis)
            serves = target.serves(temperature, logits.shape[loss.axis])
            value = loss.reduce(
                loss.compute_values(target, logits, temperature),
                weights[output],
                student.mask[output],
            )
            value = ops.cast(value, keras.config.floatx())
            if serves is not True:
                check.note(DO_NOT_SERVE, ops.logical_not(serves))
                value = ops.where(serves, value, 0.0)
            values.append(value)
            if weight != 1:
                value = weight * value
            total = value if total is None else total + value
        return total, values

    def update_metrics(self, by_output, student, sample_weight, check) -> None:
        """Adds a batch to the `distillation_metrics`."""
        outputs, targets, weights = _align(student, by_output, sample_weight)
        for output, metrics in enumerate(self.metrics):
            loss = self._find_loss(output)
            for metric in metrics:
                target, logits = targets[output], student.logits[output]
                if metric.teacher_from_logits is None:
                    target = target.to_logits(
                        loss.teacher_from_logits, loss.teacher_log_zero
                    )
                if logits is None:
                    logits = outputs[output]
                    from_logits = metric.from_logits
                    if from_logits is None:
                        from_logits = loss.from_logits
                    if not from_logits:
                        logits = to_logits(logits, loss.student_log_zero)
                serves = metric.is_served_by(target, logits.shape[metric.axis])
                if serves is not True:
                    check.note(DO_NOT_SERVE, ops.logical_not(serves))
                metric.update(
                    target, logits, weights[output], student.mask[output]
                )

    def results(self) -> dict:
        """Returns the present means, by their names in the logs."""
        if not self.built:
            return {}
        logs = self.tracker.result()
        if not self.has_hard_loss:
            del logs["hard_loss"]
        for metrics in self.metrics:
            for metric in metrics:
                logs[metric.name] = metric.result()
        return logs

    def names_of_soft_targets(self) -> list:
        """Returns the names in the logs that need soft targets."""
        if not self.built:
            return []
        names = [name for name in self.tracker.names if name != "hard_loss"]
        return names + [
            metric.name for metrics in self.metrics for metric in metrics
        ]

    def _find_loss(self, output):
        """Returns the first loss of an output, or one that knows nothing."""
        for term in self.terms:
            if term.output == output:
                return term.loss
        return DistillationLoss()


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


def check_metrics(*metrics) -> None:
    """Refuses distillation metrics among those that get the labels."""
    for metric in keras.tree.flatten(metrics):
        if isinstance(metric, DistillationMetric):
            raise ValueError(
                "Pass metrics that compare the student with its teacher as "
                "`distillation_metrics`. `metrics` get the labels. "
                f"Received: metrics with {type(metric).__name__}"
            )


def _align(student: Forward, by_output, sample_weight):
    """Returns outputs, targets and sample weights as flat lists."""
    outputs = student.outputs
    nested = keras.tree.is_nested(outputs) or keras.tree.is_nested(
        sample_weight
    )
    if isinstance(by_output, TARGET_TYPES) and not nested:
        return [outputs], [by_output], [sample_weight]
    targets = flatten_like(outputs, soft_targets=by_output)
    if keras.tree.is_nested(sample_weight):
        weights = flatten_like(outputs, sample_weight=sample_weight)
    else:
        weights = [sample_weight] * len(targets)
    return keras.tree.flatten(outputs), targets, weights


def _pair(losses, weights) -> list:
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


def _name_terms(terms, output_names) -> list:
    """Returns the names of the terms in the logs, if there are several."""
    if len(terms) == 1:
        return []
    prefixed = len(output_names) > 1
    return number_names(
        f"{output_names[term.output]}_{term.loss.name}"
        if prefixed
        else term.loss.name
        for term in terms
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


def _check_alpha(argument, value) -> float:
    return check_number(argument, value, low=0, high=1)


def _check_only_soft(argument, value) -> float:
    alpha = _check_alpha(argument, value)
    if alpha != 1:
        raise ValueError(
            "Without a hard loss (`loss=None`) there is only the soft loss, "
            "and `alpha` has to be 1. "
            f"Received: {argument}={value!r}, loss=None"
        )
    return alpha


def _spread_metrics(given, output_names) -> list[list]:
    """Returns the metrics of each output."""
    by_output = [
        [metric for metric in keras.tree.flatten(entry) if metric is not None]
        for entry in spread(given, output_names, "distillation_metrics")
    ]
    if len(output_names) == 1:
        return by_output
    # Two outputs may have been given the same object.
    return [
        [_copy(metric, f"{name}_{metric.name}") for metric in metrics]
        for name, metrics in zip(output_names, by_output, strict=True)
    ]


def _copy(metric, name):
    config = metric.get_config()
    unknown = [
        parameter.name
        for parameter in inspect.signature(type(metric)).parameters.values()
        if parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in config
    ]
    if unknown:
        raise ValueError(
            "With several outputs, `distillation_metrics` are copied for each "
            f"output: expected the `get_config` of {type(metric).__name__} to "
            f"have all arguments. Received: a config without {unknown}"
        )
    return type(metric).from_config({**config, "name": name})


def _check_names(metrics) -> None:
    names = collections.Counter(_RESERVED)
    names.update(metric.name for metric in metrics)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise ValueError(
            "Expected `distillation_metrics` with names of their own: pass "
            f"`name=...` to them. Received twice, or reserved: {repeated}"
        )

"""What a `Distiller` logs of each output besides what Keras does."""

import collections
import inspect
import typing

import keras
from keras import ops

from keras_distill.backend.keras_internals import MetricsList
from keras_distill.identifiers import number_names
from keras_distill.identifiers import replace_identifiers
from keras_distill.logits import to_logits
from keras_distill.metrics import DistillationMetric
from keras_distill.metrics import get
from keras_distill.outputs import flatten_like
from keras_distill.outputs import name_outputs
from keras_distill.outputs import spread
from keras_distill.soft_targets import is_compound

# What a `Distiller` logs by itself.
_RESERVED = ("loss", "soft_loss", "hard_loss", "alpha", "temperature")


class DistillationMetrics:
    """The `distillation_metrics` of `compile`, for each output of the student.

    A plain object: the `Distiller` lists the metrics in it as its own.

    Args:
        metrics: With one output, a `DistillationMetric` or its name, or a list
            of these. With several, one of them is copied for each output; a
            list or dict has an entry for each, which is a metric, a list of
            metrics, or `None`. `None` means that there are none.

    Raises:
        ValueError: If an entry is no distillation metric.
    """

    def __init__(self, metrics):
        self.given = replace_identifiers(metrics, get)
        self._by_output: typing.Any = None
        self._listed: typing.Any = None

    def __bool__(self):
        return any(each is not None for each in keras.tree.flatten(self.given))

    @property
    def metrics(self):
        """All metrics, in the order of the outputs."""
        return [each for metrics in self._by_output or [] for each in metrics]

    @property
    def listed(self):
        """The metrics as one that Keras looks into, in a list."""
        return [] if self._listed is None else [self._listed]

    @property
    def temperatures(self):
        """Dict from the names of metrics to their temperatures."""
        return {
            metric.name: metric.temperature
            for metric in self.metrics
            if hasattr(metric, "temperature")
        }

    def build(self, output_names):
        """Sorts the metrics by outputs, once.

        Args:
            output_names: One name for each output, in flat order.

        Raises:
            ValueError: If the metrics do not fit the outputs, or two would be
                logged under one name.
        """
        if self._by_output is not None or not self:
            return
        by_output = [
            [each for each in keras.tree.flatten(entry) if each is not None]
            for entry in spread(
                self.given, output_names, "distillation_metrics"
            )
        ]
        if len(output_names) > 1:
            # Two outputs may have been given the same object.
            by_output = [
                [_copy(each, f"{name}_{each.name}") for each in metrics]
                for name, metrics in zip(output_names, by_output, strict=True)
            ]
        names = collections.Counter(_RESERVED)
        names.update(each.name for metrics in by_output for each in metrics)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(
                "Expected `distillation_metrics` with names of their own: pass "
                f"`name=...` to them. Received twice, or reserved: {twice}"
            )
        self._by_output = by_output
        # There the callbacks of Keras look for the direction of a metric.
        self._listed = MetricsList(self.metrics)

    def update(self, soft_targets, y_pred, sample_weight, terms):
        """Adds a batch.

        Args:
            soft_targets: The teacher's outputs, in the structure of the
                student's.
            y_pred: The student's outputs.
            sample_weight: Weights: one tensor for all outputs, a structure of
                them, or `None`.
            terms: List of `losses.composition.Term`, which say whether the
                outputs are logits.
        """
        if self._by_output is None:
            # There are none, or Keras looks at a step before it is taken.
            return
        losses = {term.output: term.loss for term in reversed(terms)}
        outputs = keras.tree.flatten(y_pred)
        targets = flatten_like(y_pred, soft_targets=soft_targets)
        weights = weights_of_outputs(y_pred, sample_weight)
        for number, metrics in enumerate(self._by_output):
            for metric in metrics:
                metric.update_state(
                    *_resolve(
                        metric,
                        losses.get(number),
                        targets[number],
                        outputs[number],
                    ),
                    weights[number],
                )

    def results(self):
        """Returns a dict of the present results, by the names in the logs."""
        return {metric.name: metric.result() for metric in self.metrics}


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
            "With several outputs, `distillation_metrics` are copied for each: "
            f"expected the `get_config` of {type(metric).__name__} to have all "
            f"arguments. Received: a config without {unknown}"
        )
    return type(metric).from_config({**config, "name": name})


def _resolve(metric, loss, target, output):
    """Returns both outputs as logits, where the loss knows and not the metric.

    Args:
        metric: `DistillationMetric`.
        loss: `DistillationLoss` of the output, or `None`.
        target: The teacher's output.
        output: The student's output.
    """
    if loss is None:
        return target, output
    if metric.teacher_from_logits is None and not is_compound(target):
        target = to_logits(
            target, loss.teacher_from_logits, loss.teacher_log_zero
        )
    if metric.from_logits is None:
        output = to_logits(output, loss.from_logits, loss.student_log_zero)
    return target, output


class ComponentLosses:
    """The means of the distillation losses, where there are several.

    A plain object: the `Distiller` lists the metrics in it as its own.
    """

    def __init__(self):
        self._trackers: typing.Any = None

    @property
    def metrics(self):
        """One metric for each loss."""
        return self._trackers or []

    @property
    def built(self):
        """Whether it is known which losses there are."""
        return self._trackers is not None

    def build(self, terms, output_names):
        """Makes the metrics, once.

        Args:
            terms: List of `losses.composition.Term`.
            output_names: One name for each output, in flat order.
        """
        if self.built:
            return
        names = []
        for term in terms:
            several = len(output_names) > 1
            prefix = f"{output_names[term.output]}_" if several else ""
            names.append(prefix + term.loss.name)
        # One alone is the soft loss itself.
        self._trackers = (
            [MeanOfBatches(name=name) for name in number_names(names)]
            if len(terms) > 1
            else []
        )

    def update(self, values, batch_size):
        """Adds a batch.

        Args:
            values: The losses, one scalar for each term, not weighted.
            batch_size: Number of samples.
        """
        for tracker, value in zip(self.metrics, values, strict=False):
            tracker.update_state(value, sample_weight=batch_size)


class MeanOfBatches(keras.metrics.Mean):
    """`Mean` of one number a batch, without the operations for more."""

    def update_state(self, values, sample_weight):
        weight = ops.cast(sample_weight, self.dtype)
        self.total.assign_add(ops.cast(values, self.dtype) * weight)
        self.count.assign_add(weight)


def check_metrics(*metrics):
    """Refuses distillation metrics among those that compare with labels.

    Args:
        *metrics: Arguments `metrics` and `weighted_metrics` of `compile`.

    Raises:
        ValueError: If there is one.
    """
    for metric in keras.tree.flatten(metrics):
        if isinstance(metric, DistillationMetric):
            raise ValueError(
                "Metrics that compare the student with its teacher go to "
                "`distillation_metrics`, and those in `metrics` get the "
                f"labels. Received: metrics with {type(metric).__name__}"
            )


def weights_of_outputs(y_pred, sample_weight):
    """Returns the sample weights of each output, in flat order.

    Args:
        y_pred: The student's outputs.
        sample_weight: Weights: one tensor for all outputs, a structure of
            them, or `None`.
    """
    if keras.tree.is_nested(sample_weight):
        return flatten_like(y_pred, sample_weight=sample_weight)
    return [sample_weight] * len(name_outputs(y_pred))

"""What a `Distiller` logs of each output besides what Keras does."""

import collections
import typing

import keras
from keras import ops

from keras_distill.identifiers import number_names
from keras_distill.metrics import DistillationMetric
from keras_distill.metrics import get
from keras_distill.outputs import flatten_like
from keras_distill.outputs import name_outputs
from keras_distill.outputs import spread


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
        self.given = _standardize(metrics)
        self._by_output: typing.Any = None
        self._names: tuple = ()

    def __bool__(self):
        return any(each is not None for each in keras.tree.flatten(self.given))

    @property
    def metrics(self):
        """All metrics, in the order of the outputs."""
        return [metric for _, metric in self._named()]

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
                [type(each).from_config(each.get_config()) for each in metrics]
                for metrics in by_output
            ]
        self._by_output, self._names = by_output, tuple(output_names)
        names = collections.Counter(name for name, _ in self._named())
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(
                "Expected `distillation_metrics` with names of their own: pass "
                f"`name=...` to them. Received twice: {twice}"
            )

    def update(self, soft_targets, y_pred, sample_weight):
        """Adds a batch.

        Args:
            soft_targets: The teacher's outputs, in the structure of the
                student's.
            y_pred: The student's outputs.
            sample_weight: Weights: one tensor for all outputs, a structure of
                them, or `None`.
        """
        if not self:
            return
        outputs = keras.tree.flatten(y_pred)
        targets = flatten_like(y_pred, soft_targets=soft_targets)
        weights = weights_of_outputs(y_pred, sample_weight)
        for metrics, target, output, weight in zip(
            self._by_output, targets, outputs, weights, strict=True
        ):
            for metric in metrics:
                metric.update_state(target, output, weight)

    def results(self):
        """Returns a dict of the present results, by the names in the logs."""
        return {name: metric.result() for name, metric in self._named()}

    def _named(self):
        for name, metrics in zip(
            self._names, self._by_output or [], strict=True
        ):
            prefix = f"{name}_" if len(self._names) > 1 else ""
            for metric in metrics:
                yield prefix + metric.name, metric


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

    def build(self, terms, output_names):
        """Makes the metrics, once.

        Args:
            terms: List of `losses.composition.Term`.
            output_names: One name for each output, in flat order.
        """
        if self._trackers is not None:
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


def _standardize(metrics):
    """Replaces names and configs by metrics."""
    if isinstance(metrics, dict) and "class_name" not in metrics:
        return {name: _standardize(entry) for name, entry in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [_standardize(entry) for entry in metrics]
    return None if metrics is None else get(metrics)

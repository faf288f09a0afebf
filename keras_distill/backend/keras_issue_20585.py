"""Mends `fit` of Keras 3 under `tf.distribute.MultiWorkerMirroredStrategy`.

https://github.com/keras-team/keras/issues/20585, open since 2024. Keras takes
the mean of the first batch over all workers to build a model, which it can not
do with a batch that each worker has for itself; it reduces the logs over their
first axis, which a scalar does not have; and its loop over several steps in one
execution does not run with what workers send each other. Once Keras does
without, this file can go, with `MultiWorkerFit` among the bases of the
`Distiller`.
"""

import typing

import keras
import tensorflow as tf

from keras_distill.backend.keras_internals import first_batch

# It stands in front of `keras.Model`.
_Mixin: typing.Any = object


class MultiWorkerFit(_Mixin):
    """What a `keras.Model` lacks to train on several machines."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None and self._has_several_workers():
            data_batch = keras.tree.map_structure(
                self._own_part, first_batch(iterator)
            )
            iterator = None
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def _make_function(self, step_function):
        if not self._has_several_workers():
            return super()._make_function(step_function)

        def step(data):
            logs = step_function(data)
            return {
                name: tf.expand_dims(value, 0) for name, value in logs.items()
            }

        function = super()._make_function(step)
        if self.steps_per_execution == 1:
            return function
        return lambda iterator: self._run_steps(function, iterator)

    def _run_steps(self, function, iterator):
        """Takes the steps of one execution, one after another."""
        logs = None
        for _ in range(self.steps_per_execution):
            try:
                batch = next(iterator)
            except StopIteration:
                if logs is None:
                    raise
                break
            logs = function([batch])
        return logs

    def _has_several_workers(self):
        return isinstance(
            self._distribute_strategy,
            tf.distribute.MultiWorkerMirroredStrategy,
        )

    def _own_part(self, value):
        """Returns what the first replica of this worker has of a batch."""
        return self._distribute_strategy.experimental_local_results(value)[0]

"""Everything that this package uses of Keras and that Keras does not export.

It is in one file, so that a new version of Keras has one file to check.
"""

import typing

import keras
from keras.src.backend import compute_output_spec
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.losses.loss import reduce_weighted_values
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.trainers.compile_utils import MetricsList
from keras.src.trainers.data_adapters import data_adapter_utils
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters import is_tf_dataset
from keras.src.trainers.data_adapters.array_data_adapter import (
    can_convert_arrays,
)
from keras.src.trainers.data_adapters.array_slicing import (
    train_validation_split,
)
from keras.src.trainers.trainer import model_supports_jit
from keras.src.utils.naming import to_snake_case

# ---- Layers and models


def flatten_layers(model) -> list:
    """Lists a model and all layers in it, at any depth."""
    return model._flatten_layers()


def list_own_weights(layer) -> list:
    """Lists the weights of a layer without those of the layers in it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def find_dtype_policy(model):
    """Returns the dtype policy from which Keras decides about loss scaling."""
    # One layer in float16 is enough to need it.
    for layer in flatten_layers(model):
        if layer.dtype_policy.name == "mixed_float16":
            return layer.dtype_policy
    return model.dtype_policy


def has_default_build(layer) -> bool:
    """Whether a layer has no `build` of its own."""
    return getattr(layer.build, "_is_default", False)


def infer_outputs(model, inputs):
    """Returns the outputs of a model as `keras.KerasTensor`s."""
    symbols = keras.tree.map_structure(
        # An optional input may be `None`.
        lambda x: (
            x
            if x is None
            else keras.KerasTensor(
                x.shape, keras.backend.standardize_dtype(x.dtype)
            )
        ),
        inputs,
    )
    return compute_output_spec(model, symbols, training=False)


def find_origin(tensor):
    """Returns the operation that made a `KerasTensor`, and its inputs."""
    operation, node, _ = tensor._keras_history
    return operation, operation._inbound_nodes[node].input_tensors


def copy_keras_logits(output, copy, function) -> None:
    """Attaches the logits of a softmax, changed by a function, to a copy."""
    # The losses of Keras prefer them to probabilities on TensorFlow.
    if hasattr(output, "_keras_logits"):
        copy._keras_logits = function(output._keras_logits)


def get_value(variable):
    """Returns the raw value of a variable, `None` where Keras took it out."""
    return variable._value


def set_value(variable, value) -> None:
    """Replaces the raw value of a variable, also by a tracer."""
    variable._value = value


# ---- Losses and metrics


def find_loss_argument(loss, name: str, default=None):
    """Returns an argument that a loss was created with."""
    # Not every version of Keras has attributes for the arguments of its losses.
    # A loss that a user wrote has only attributes.
    arguments = getattr(loss, "_fn_kwargs", {})
    return arguments.get(name, getattr(loss, name, default))


def set_direction(metric, direction: str) -> None:
    """Tells callbacks whether a metric gets better "up" or "down"."""
    metric._direction = direction


def compute_hard_loss(model, y, outputs, sample_weight):
    """Returns the `loss` of `compile`, without regularization."""
    return model._compile_loss(y, outputs, sample_weight)


def list_additional_losses(model) -> list:
    """Lists the regularization and `add_loss` terms of a model as scalars."""
    return list(map(model._aggregate_additional_loss, model.losses))


def has_compiled_metrics(model) -> bool:
    """Whether `compile` got `metrics` or `weighted_metrics`."""
    return model._compile_metrics is not None


def lacks_compiled_metrics(model) -> bool:
    """Whether the metrics of `compile` are not built yet.

    Keras builds them from the first labels. A step that was compiled without
    labels cannot create them later.
    """
    metrics = model._compile_metrics
    return metrics is not None and not metrics.built


def get_compiled_results(model) -> dict:
    """Returns the results of the metrics of `compile`, once they are built."""
    metrics = model._compile_metrics
    return {} if metrics is None or not metrics.built else metrics.result()


def clear_compile(model) -> None:
    """Removes the loss and metrics of a former `compile`."""
    model.loss = model._compile_loss = model._compile_metrics = None


# ---- Data


def is_sparse(tensor) -> bool:
    """Whether a tensor is sparse."""
    return data_adapter_utils.is_tensorflow_sparse(
        tensor
    ) or data_adapter_utils.is_jax_sparse(tensor)


def are_dense(arrays) -> bool:
    """Whether no array of a structure is sparse or ragged."""
    return not any(
        is_other(array)
        for array in keras.tree.flatten(arrays)
        for is_other in (
            data_adapter_utils.is_jax_sparse,
            data_adapter_utils.is_scipy_sparse,
            data_adapter_utils.is_tensorflow_ragged,
            data_adapter_utils.is_tensorflow_sparse,
        )
    )


def first_batch(iterator):
    """Returns the first batch of what Keras iterates over in an epoch."""
    for _, _, data in iterator:
        return data[0] if isinstance(data, (list, tuple)) else next(data)
    return None


# ---- Training


def get_strategy(model):
    """Returns the `tf.distribute` strategy that a model was made under."""
    return model._distribute_strategy


def resolve_jit_compile(model, other_models: list) -> bool:
    """Returns what `jit_compile="auto"` means for models in one step."""
    return model._resolve_auto_jit_compile() and all(
        map(model_supports_jit, other_models)
    )


class StepModel(keras.Model):
    """A `keras.Model` with public hooks for a private method of Keras.

    `is_ready_for_steps` returns whether a step can run without creating
    variables. Otherwise `prepare_for_steps` creates those that Keras does not
    create, and returns the first batch as Keras knows it.
    """

    def _symbolic_build(self, iterator=None, data_batch=None):
        compiled = (self._compile_loss, self._compile_metrics)
        # Peeking consumes a batch from a one-shot iterator.
        if not self.is_ready_for_steps() or any(
            part is not None and not part.built for part in compiled
        ):
            if data_batch is None:
                data_batch = first_batch(iterator)
            data_batch = self.prepare_for_steps(data_batch)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    class MultiWorkerModel(StepModel):
        """Fixes `fit` under `tf.distribute.MultiWorkerMirroredStrategy`.

        Remove it once https://github.com/keras-team/keras/issues/20585 is
        closed. Keras builds a model from the first batch of all workers, which
        it cannot read; it concatenates the logs along their first axis, which
        a scalar does not have; and its loop over several steps in one
        execution does not run with the communication of the workers.
        """

        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            if iterator is not None and self._has_several_workers():
                data_batch = keras.tree.map_structure(
                    self._own_part, first_batch(iterator)
                )
                iterator = None
            super()._maybe_symbolic_build(
                iterator=iterator, data_batch=data_batch
            )

        def _make_function(self, step_function):
            if not self._has_several_workers():
                return super()._make_function(step_function)

            def step(data):
                return {
                    name: tf.expand_dims(value, 0)
                    for name, value in step_function(data).items()
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
            """Returns the part of a batch of the first local replica."""
            strategy = self._distribute_strategy
            return strategy.experimental_local_results(value)[0]

    TrainedModel: typing.Any = MultiWorkerModel
else:
    TrainedModel = StepModel

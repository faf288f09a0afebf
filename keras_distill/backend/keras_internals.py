"""What this package needs of Keras that Keras does not export.

In one place, so that a new version of Keras has one file to check.
"""

import keras
from keras.src.backend import compute_output_spec
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.backend.common.tensor_attributes import get_tensor_attr
from keras.src.backend.common.tensor_attributes import set_tensor_attr
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


def flatten_layers(model):
    """Lists a model and all layers in it, at any depth."""
    return model._flatten_layers()


def list_own_weights(layer):
    """Lists the weights of a layer without those of the layers in it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def are_dense(arrays):
    """Whether all arrays of a structure have a number at each place."""
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


def find_loss_argument(loss, name, default=None):
    """Returns an argument that a loss was created with.

    No version of Keras has all arguments of its losses as attributes. A loss
    that a user wrote has attributes only.
    """
    arguments = getattr(loss, "_fn_kwargs", {})
    return arguments.get(name, getattr(loss, name, default))


def infer_outputs(model, inputs):
    """Returns the outputs of a model as `keras.KerasTensor`s.

    Args:
        model: `keras.Model`.
        inputs: A batch of inputs.
    """
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
    """Returns which operation of a functional model a tensor comes from.

    Args:
        tensor: `keras.KerasTensor`.

    Returns:
        The operation, most often a layer, and the list of its inputs.
    """
    operation, node, _ = tensor._keras_history
    return operation, operation._inbound_nodes[node].input_tensors


__all__ = [
    "MetricsList",
    "are_dense",
    "can_convert_arrays",
    "find_loss_argument",
    "find_origin",
    "first_batch",
    "flatten_layers",
    "get_data_adapter",
    "get_keras_mask",
    "get_tensor_attr",
    "in_symbolic_scope",
    "infer_outputs",
    "is_tf_dataset",
    "list_own_weights",
    "model_supports_jit",
    "set_keras_mask",
    "set_tensor_attr",
    "to_snake_case",
    "train_validation_split",
]

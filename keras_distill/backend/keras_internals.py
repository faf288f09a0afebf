"""What this package needs of Keras that Keras does not export.

In one place, so that a new version of Keras has one file to check.
"""

from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask
from keras.src.backend.common.tensor_attributes import get_tensor_attr
from keras.src.backend.common.tensor_attributes import set_tensor_attr
from keras.src.trainers.compile_utils import MetricsList
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.array_data_adapter import (
    can_convert_arrays,
)
from keras.src.trainers.data_adapters.array_slicing import (
    train_validation_split,
)
from keras.src.utils.naming import to_snake_case


def flatten_layers(model):
    """Lists a model and all layers in it, at any depth."""
    return model._flatten_layers()


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
    "can_convert_arrays",
    "find_origin",
    "flatten_layers",
    "get_data_adapter",
    "get_keras_mask",
    "get_tensor_attr",
    "set_keras_mask",
    "set_tensor_attr",
    "to_snake_case",
    "train_validation_split",
]

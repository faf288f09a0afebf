"""What this package needs of Keras that Keras does not export.

In one place, so that a new version of Keras has one file to check.
"""

from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask
from keras.src.backend.common.tensor_attributes import get_tensor_attr
from keras.src.backend.common.tensor_attributes import set_tensor_attr


def flatten_layers(model):
    """Lists a model and all layers in it, at any depth."""
    return model._flatten_layers()


__all__ = [
    "flatten_layers",
    "get_keras_mask",
    "get_tensor_attr",
    "set_keras_mask",
    "set_tensor_attr",
]

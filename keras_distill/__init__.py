"""Knowledge distillation for Keras."""

from keras_distill import losses
from keras_distill.distiller import Distiller
from keras_distill.layers import TemperatureSoftmax
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.version import __version__

__all__ = [
    "Distiller",
    "Ensemble",
    "TemperatureSoftmax",
    "__version__",
    "losses",
]

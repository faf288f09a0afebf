"""Knowledge distillation for Keras."""

from keras_distill import losses
from keras_distill.distiller import Distiller
from keras_distill.layers import TemperatureSoftmax
from keras_distill.soft_targets import EnsembleTargets
from keras_distill.soft_targets import TopKTargets
from keras_distill.soft_targets import top_k_targets
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.transfer.store import SoftTargetStore
from keras_distill.version import __version__

__all__ = [
    "Distiller",
    "Ensemble",
    "EnsembleTargets",
    "SoftTargetStore",
    "TemperatureSoftmax",
    "TopKTargets",
    "__version__",
    "losses",
    "top_k_targets",
]

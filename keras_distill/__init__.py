"""Knowledge distillation for Keras."""

from keras_distill import calibration
from keras_distill import losses
from keras_distill import metrics
from keras_distill import plots
from keras_distill.distiller import Distiller
from keras_distill.evaluation.comparison import Comparison
from keras_distill.evaluation.comparison import McNemarTest
from keras_distill.evaluation.comparison import ModelReport
from keras_distill.evaluation.comparison import compare
from keras_distill.evaluation.summary import ComparisonSummary
from keras_distill.evaluation.summary import summarize
from keras_distill.hints import suggest_temperature
from keras_distill.inference import predict_logits
from keras_distill.layers import TemperatureSoftmax
from keras_distill.store.store import SoftTargetStore
from keras_distill.targets import EnsembleTargets
from keras_distill.targets import TopKTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.top_k import top_k_targets
from keras_distill.version import __version__

__all__ = [
    "Comparison",
    "ComparisonSummary",
    "Distiller",
    "Ensemble",
    "EnsembleTargets",
    "McNemarTest",
    "ModelReport",
    "SoftTargetStore",
    "TemperatureSoftmax",
    "TopKTargets",
    "WithSoftTargets",
    "__version__",
    "calibration",
    "compare",
    "losses",
    "metrics",
    "plots",
    "predict_logits",
    "suggest_temperature",
    "summarize",
    "top_k_targets",
]

"""Plots of teachers, students and their training.

Each function draws on `ax`, or on a new figure if `ax` is `None`, and returns
the figure. The plots need matplotlib: `pip install 'keras-distill[plots]'`.
"""

from keras_distill.plots.accuracy_against_size import accuracy_against_size
from keras_distill.plots.class_similarity import class_similarity
from keras_distill.plots.learning_curves import learning_curves
from keras_distill.plots.measurements import error_against_examples
from keras_distill.plots.measurements import error_against_learning_rate
from keras_distill.plots.measurements import error_against_temperature
from keras_distill.plots.measurements import gradient_cosine
from keras_distill.plots.reliability_diagram import reliability_diagram
from keras_distill.plots.soft_targets import soft_targets

__all__ = [
    "accuracy_against_size",
    "class_similarity",
    "error_against_examples",
    "error_against_learning_rate",
    "error_against_temperature",
    "gradient_cosine",
    "learning_curves",
    "reliability_diagram",
    "soft_targets",
]

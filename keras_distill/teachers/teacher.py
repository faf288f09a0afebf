import functools
import warnings

import keras
from keras import ops

from keras_distill.backend import without_gradient
from keras_distill.backend.keras_compat import flatten_layers
from keras_distill.backend.keras_compat import infer_outputs
from keras_distill.backend.keras_compat import list_own_weights
from keras_distill.data.cache import TargetCache
from keras_distill.fingerprints import fingerprint_model
from keras_distill.forward import ends_linearly
from keras_distill.forward import forward_teacher
from keras_distill.forward import list_outputs
from keras_distill.targets import CheckedTargets
from keras_distill.targets import DenseTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.targets import as_targets
from keras_distill.targets import flatten_outputs
from keras_distill.targets import map_outputs
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.ensemble import call_model
from keras_distill.teachers.ensemble import check_same_outputs
from keras_distill.teachers.ensemble import has_known_weights
from keras_distill.teachers.predictor import TargetPredictor

_HALF = ("float16", "bfloat16")


class Teacher:
    """A model, a callable or a list of these, as the source of soft targets."""

    # A plain object: Keras does not track it, so the teacher's weights are not
    # trained and not saved with the `Distiller`.

    def __init__(self, teacher):
        # The argument, before a list becomes an `Ensemble`.
        self.original = teacher
        self.is_list = isinstance(teacher, (list, tuple))
        if self.is_list and not teacher:
            raise ValueError(
                "Expected `teacher` to be a list of at least one model. "
                f"Received: teacher={teacher!r}"
            )
        self.function = Ensemble(teacher) if self.is_list else teacher
        self.is_ensemble = isinstance(self.function, Ensemble)
        if isinstance(teacher, type) or not callable(self.function):
            raise ValueError(
                "Expected `teacher` to be a `keras.Model`, a callable that "
                "takes the inputs and returns logits, or a list of these. "
                f"Received: teacher={teacher!r}"
            )
        owner = getattr(teacher, "__self__", None)
        names = ("predict", "predict_on_batch")
        if isinstance(owner, keras.Model) and teacher.__name__ in names:
            raise ValueError(
                "Expected `teacher` to be the model itself: "
                f"`{teacher.__name__}` returns arrays and cannot be a part of "
                f"a training step. Received: teacher={teacher!r}"
            )

    @property
    def averages_at_a_temperature(self):
        """Whether the outputs depend on the temperature of the losses."""
        return self.is_ensemble and self.function.averages_at_a_temperature

    def input_ranks(self):
        """Returns the ranks of the inputs of a batch, `None` if unknown."""
        inputs = getattr(_list_members(self.function)[0], "inputs", None)
        return [len(tensor.shape) for tensor in inputs] if inputs else None

    def fingerprint(self):
        """Returns a hash, or `None` if a change of it may be invisible."""
        if self.weights() is None:
            return None
        return fingerprint_model(self.function)

    @property
    def model(self):
        """The teacher as a Keras model; `None` for a function."""
        is_model = isinstance(self.function, keras.layers.Layer)
        return self.function if is_model else None

    def find_outputs(self):
        """Returns the outputs as `keras.KerasTensor`s, `None` if unknown."""
        outputs = map(list_outputs, _list_members(self.function))
        return next(filter(None, outputs), None)

    def ends_linearly(self) -> bool:
        """Whether its outputs are known to be logits."""
        return not self.is_ensemble and ends_linearly(self.function)

    def variables(self):
        """Lists the variables of the Keras models."""
        return [] if self.model is None else self.model.variables

    @property
    def built(self):
        """Whether all models have weights."""
        return self.model is None or all(
            layer.built for layer in flatten_layers(self.model)
        )

    def build(self, inputs):
        """Creates the weights of models that have never been called."""
        if not self.built:
            infer_outputs(self.model, inputs)

    def weights(self):
        """Returns all weights, `None` if the teacher contains a function."""
        known = has_known_weights(self.function)
        return self.function.weights if known else None

    def list_shared_weights(self, student):
        """Lists the paths of the weights that training `student` changes."""
        # Moving statistics change as well, although they are not trainable.
        changing = {
            id(weight)
            for layer in flatten_layers(student)
            if layer.trainable
            for weight in list_own_weights(layer)
        }
        return [
            variable.path
            for variable in self.variables()
            if id(variable) in changing
        ]

    def check_against(self, student):
        """Raises a `ValueError` if the models cannot match."""
        for model in _list_members(self.function):
            if model is student:
                raise ValueError(
                    "Expected `student` and `teacher` to be two models. "
                    f"Received the same model twice: {student!r}"
                )
            check_same_outputs(model, student, "teacher and student")
        shared = self.list_shared_weights(student)
        if shared:
            warnings.warn(
                "The teacher shares trainable weights with the student, so "
                "training the student changes the teacher. To prevent this, "
                "set `trainable = False` on the shared layers. Shared: "
                f"{shared}",
                stacklevel=4,
            )

    def compute_targets(self, inputs, objective, check=None):
        """Returns the `Targets` of each output, without a gradient."""
        with without_gradient():
            if self.is_ensemble:
                result = call_model(
                    self.function,
                    inputs,
                    temperature=objective.ensemble_temperatures
                    if self.averages_at_a_temperature
                    else 1.0,
                    from_logits=objective.teacher_from_logits()
                    if self.is_list
                    else None,
                    inspect=check
                    and functools.partial(check.inspect, "teacher"),
                    axis=objective.ensemble_axes,
                )
            else:
                result = forward_teacher(self.function, inputs)
            flat = keras.tree.flatten(result.outputs)
            targets = list(map(_to_targets, flat, result.logits))
            return keras.tree.pack_sequence_as(result.outputs, targets)


class Supervision:
    """The teacher and the cache: where soft targets come from."""

    def __init__(self, student, teacher):
        self._student = student
        self.cache = TargetCache()
        # Whether a compiled step may contain the teacher.
        self.is_in_steps = False
        self.replace_teacher(teacher)

    def replace_teacher(self, teacher) -> None:
        """Replaces the teacher, if the student can match the new one."""
        wrapped = None if teacher is None else Teacher(teacher)
        if wrapped is not None:
            wrapped.check_against(self._student)
        self.teacher = wrapped

    @property
    def averages(self) -> bool:
        """Whether the soft targets are means at the present temperature."""
        teacher = self.teacher
        return teacher is not None and teacher.averages_at_a_temperature

    def make_predictor(self, objective, check):
        """Returns the teacher as a Keras model, `None` without a teacher."""
        if self.teacher is None:
            return None
        return TargetPredictor(self.teacher, objective, check)

    def find_targets(self, x, objective, check):
        """Returns inputs with parsed soft targets, if there are any."""
        if isinstance(x, WithSoftTargets):
            if isinstance(x.soft_targets, CheckedTargets):
                return x
            targets = map_outputs(as_targets, x.soft_targets)
            if not flatten_outputs(targets):
                raise ValueError(
                    "Expected soft targets beside the inputs. "
                    f"Received: soft_targets={x.soft_targets!r}"
                )
            return WithSoftTargets(x.inputs, targets)
        if self.teacher is None:
            return x
        self.is_in_steps = True
        targets = self.teacher.compute_targets(x, objective, check)
        return WithSoftTargets(x, targets)

    def check(self, objective) -> None:
        """Raises a `ValueError` if the soft targets no longer hold."""
        self.cache.check(self.teacher, objective)
        if self.averages and objective.built:
            # A callback may have changed a temperature.
            objective.ensemble_temperatures()
            self.check_metric_temperatures(objective)

    def check_metric_temperatures(self, objective) -> None:
        """Raises if a metric needs another temperature than the ensemble."""
        if not self.averages:
            return
        for name, temperature, present in objective.metric_temperatures():
            if temperature != present:
                raise ValueError(
                    "The mean of an ensemble is computed at the temperature of "
                    "the distillation loss, and holds at no other temperature: "
                    f"pass `temperature={present:g}` to the metric "
                    f"{name!r}. Received: temperature={temperature:g}"
                )


def _list_members(model) -> list:
    """Lists the members of an ensemble, and of the ensembles in it."""
    if not isinstance(model, Ensemble):
        return [model]
    return [part for member in model.models for part in _list_members(member)]


def _to_targets(output, logits):
    """Returns the `Targets` of an output; `logits` are before a softmax."""
    tensor = ops.stop_gradient(output if logits is None else logits)
    if keras.backend.standardize_dtype(tensor.dtype) in _HALF:
        # NumPy and the losses need more.
        tensor = ops.cast(tensor, "float32")
    return as_targets(tensor) if logits is None else DenseTargets(tensor)

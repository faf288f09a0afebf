import warnings

import keras
from keras import ops

from keras_distill.backend import without_gradient
from keras_distill.backend.keras_compat import flatten_layers
from keras_distill.backend.keras_compat import infer_outputs
from keras_distill.backend.keras_compat import list_own_weights
from keras_distill.fingerprints import fingerprint_model
from keras_distill.forward import ends_linearly
from keras_distill.forward import forward
from keras_distill.outputs import name_outputs
from keras_distill.targets import DenseTargets
from keras_distill.targets import as_targets
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.validation import shapes_agree


class Teacher:
    """Calls whatever the user gave as the teacher.

    A plain object on purpose: Keras does not track it, so the teacher's
    weights are no weights of the `Distiller`, and are neither trained nor
    saved with it.

    Args:
        teacher: A `keras.Model`, a callable `inputs -> outputs`, or a list
            of these.

    Raises:
        ValueError: If it is something else.
    """

    def __init__(self, teacher):
        self.is_list = isinstance(teacher, (list, tuple))
        if self.is_list and not teacher:
            raise ValueError(
                "Expected `teacher` to be a list of at least one model. "
                f"Received: teacher={teacher!r}"
            )
        self.given = Ensemble(teacher) if self.is_list else teacher
        if isinstance(teacher, type) or not callable(self.given):
            raise ValueError(
                "Expected `teacher` to be a `keras.Model`, a callable that "
                "takes the inputs and returns logits, or a list of these. "
                f"Received: teacher={teacher!r}"
            )
        owner = getattr(teacher, "__self__", None)
        if isinstance(owner, keras.Model) and teacher.__name__ in (
            "predict",
            "predict_on_batch",
        ):
            raise ValueError(
                "Expected `teacher` to be the model itself: "
                f"`{teacher.__name__}` returns arrays and cannot be a part of "
                f"a training step. Received: teacher={teacher!r}"
            )

    @property
    def is_ensemble(self):
        """Whether it is an `Ensemble`."""
        return isinstance(self.given, Ensemble)

    @property
    def averages_at_a_temperature(self):
        """Whether the outputs depend on the temperature of the losses."""
        return self.is_ensemble and self.given.averages_at_a_temperature

    def input_ranks(self):
        """Returns the ranks of the inputs of a batch, or `None`.

        They are known of a model that was built from `keras.Input`.
        """
        model = self.given.models[0] if self.is_ensemble else self.given
        inputs = getattr(model, "inputs", None)
        return [len(each.shape) for each in inputs] if inputs else None

    def fingerprint(self):
        """Returns a hash of architecture and weights, or `None`.

        There is none of a function, of which nobody knows what it depends on.
        """
        if self.weights() is None:
            return None
        return fingerprint_model(self.given)

    def models(self):
        """Lists all of it that is known to be a Keras model."""
        given = [self.given, *getattr(self.given, "models", [])]
        given.append(getattr(self.given, "member_weights", None))
        return [each for each in given if isinstance(each, keras.layers.Layer)]

    def find_outputs(self):
        """Returns its outputs as `keras.KerasTensor`s, or `None`.

        They are known of a model that was built from `keras.Input`, and of an
        ensemble with such a member.
        """
        for model in getattr(self.given, "models", [self.given]):
            if getattr(model, "outputs", None):
                return model.outputs
        return None

    def ends_linearly(self) -> bool:
        """Whether its outputs are known to be logits."""
        return not self.is_ensemble and ends_linearly(self.given)

    def variables(self):
        """Lists the variables of these models."""
        variables = {
            id(variable): variable
            for model in self.models()
            for variable in model.variables
        }
        return list(variables.values())

    @property
    def built(self):
        """Whether all models have their weights."""
        return all(
            layer.built
            for model in self.models()
            for layer in flatten_layers(model)
        )

    def build(self, inputs):
        """Makes the weights of models that have never been called.

        Args:
            inputs: A batch of inputs.
        """
        for model in self.models():
            if not all(layer.built for layer in flatten_layers(model)):
                infer_outputs(model, inputs)

    def weights(self):
        """Returns all weights, or `None` of what is no Keras model."""
        if not _is_known(self.given):
            return None
        models = getattr(self.given, "models", [self.given])
        return [weight for model in models for weight in model.weights]

    def list_shared_weights(self, student):
        """Lists the paths of the weights that training `student` changes."""
        # With the moving statistics of a batch normalisation, say.
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
        """Says as early as possible what can not be distilled into `student`.

        Args:
            student: `keras.Model`.

        Raises:
            ValueError: If the student is its own teacher, or the outputs are
                known and do not match.
        """
        for model in getattr(self.given, "models", [self.given]):
            if model is student:
                raise ValueError(
                    "Expected `student` and `teacher` to be two models. "
                    f"Received the same one twice: {student!r}"
                )
            if getattr(model, "outputs", None) and getattr(
                student, "outputs", None
            ):
                _check_outputs(model.outputs, student.outputs)
        shared = self.list_shared_weights(student)
        if shared:
            warnings.warn(
                "The teacher shares trainable weights with the student, so "
                "training the student changes the teacher. To prevent that "
                "set `trainable = False` on the shared layers. Shared: "
                f"{shared}",
                stacklevel=4,
            )

    def compute_targets(self, inputs, objective, output_names, inspect=None):
        """Returns the `Targets` of each output, without a gradient.

        Args:
            inputs: A batch of inputs.
            objective: The `Objective` that will use them. An ensemble is
                averaged at its temperature.
            output_names: Names of the student's outputs, or `None`.
            inspect: Function `(outputs, axis)` that gets the outputs of
                ensemble members that are taken for logits, or `None`.
        """
        with without_gradient():
            return self._compute(inputs, objective, output_names, inspect)

    def _compute(self, inputs, objective, output_names, inspect):
        if self.is_ensemble:
            logits = self.given.compute_logits(
                inputs,
                lambda outputs: objective.ensemble_temperatures(
                    name_outputs(outputs, output_names)
                ),
                objective.teacher_from_logits() if self.is_list else None,
                inspect,
                lambda outputs: objective.ensemble_axes(
                    name_outputs(outputs, output_names)
                ),
            )
            return keras.tree.map_structure(_stop_dense, logits)
        if not isinstance(self.given, keras.layers.Layer):
            return keras.tree.map_structure(_stop_unknown, self.given(inputs))
        result = forward(self.given, inputs, training=False)
        if not keras.tree.is_nested(result.outputs):
            return _stop(result.outputs, result.logits[0])
        flat = keras.tree.flatten(result.outputs)
        targets = list(map(_stop, flat, result.logits))
        return keras.tree.pack_sequence_as(result.outputs, targets)


def _is_known(model):
    """Whether all that the outputs depend on are weights of Keras models."""
    if not isinstance(model, Ensemble):
        return isinstance(model, keras.layers.Layer)
    return not callable(model.member_weights) and all(
        map(_is_known, model.models)
    )


def _stop(output, logits):
    """Returns the `Targets` of an output, whose logits may be `None`."""
    return _stop_unknown(output) if logits is None else _stop_dense(logits)


def _stop_dense(logits):
    return DenseTargets(_widen(ops.stop_gradient(logits)))


def _stop_unknown(output):
    return as_targets(_widen(ops.stop_gradient(output)))


def _widen(output):
    """Returns half precision as float32, which NumPy and the losses need."""
    dtype = keras.backend.standardize_dtype(output.dtype)
    if dtype in ("float16", "bfloat16"):
        return ops.cast(output, "float32")
    return output


def _check_outputs(teacher_outputs, student_outputs):
    if len(teacher_outputs) != len(student_outputs):
        raise ValueError(
            "Expected the teacher to have as many outputs as the student. "
            f"Received: teacher with {len(teacher_outputs)}, student with "
            f"{len(student_outputs)}"
        )
    for of_teacher, of_student in zip(
        teacher_outputs, student_outputs, strict=True
    ):
        if not shapes_agree(of_teacher.shape, of_student.shape):
            raise ValueError(
                "Expected the outputs of teacher and student to have the same "
                "shape, with the same number of classes. Received: teacher "
                f"{of_teacher.shape}, student {of_student.shape}"
            )

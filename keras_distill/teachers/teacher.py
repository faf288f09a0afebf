import warnings

import keras
from keras import ops

from keras_distill.logits import are_marked
from keras_distill.logits import call_model
from keras_distill.logits import mark
from keras_distill.logits import to_logits
from keras_distill.outputs import name_outputs
from keras_distill.outputs import shapes_agree
from keras_distill.teachers.ensemble import arithmetic_mean_logits


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
        self.given = teacher
        self._averages = isinstance(teacher, (list, tuple))
        self._models = list(teacher) if self._averages else [teacher]
        if not self._models:
            raise ValueError(
                "Expected `teacher` to be a list of at least one model. "
                f"Received: teacher={teacher!r}"
            )
        for model in self._models:
            if isinstance(model, type) or not callable(model):
                raise ValueError(
                    "Expected `teacher` to be a `keras.Model`, a callable "
                    "that takes the inputs and returns logits, or a list of "
                    f"these. Received: teacher={model!r}"
                )

    def check_against(self, student):
        """Says as early as possible what can not be distilled into `student`.

        Args:
            student: `keras.Model`.

        Raises:
            ValueError: If the student is its own teacher, or the outputs are
                known and do not match.
        """
        for model in self._models:
            if model is student:
                raise ValueError(
                    "Expected `student` and `teacher` to be two models. "
                    f"Received the same one twice: {student!r}"
                )
            if isinstance(model, keras.layers.Layer):
                _warn_of_shared_weights(model, student)
            if getattr(model, "outputs", None) and getattr(
                student, "outputs", None
            ):
                _check_outputs(model.outputs, student.outputs)

    def __call__(self, inputs, distillation, output_names):
        """Returns the teacher's outputs, out of reach of any gradient.

        Args:
            inputs: A batch of inputs.
            distillation: The `Distillation` that will compare the outputs. A
                list of teachers is averaged at its temperature.
            output_names: Names of the student's outputs, or `None`.

        Returns:
            Outputs in the teacher's structure, as `to_logits` takes them.
        """
        outputs = [_call(model, inputs) for model in self._models]
        if not self._averages:
            return outputs[0]
        flat = [keras.tree.flatten(member) for member in outputs]
        averages = list(flat[0])
        names = name_outputs(outputs[0], output_names)
        for output, losses in distillation.by_output(names).items():
            averages[output] = _average(
                [member[output] for member in flat], losses
            )
        return keras.tree.pack_sequence_as(outputs[0], averages)


def _call(model, inputs):
    if isinstance(model, keras.layers.Layer):
        outputs = call_model(model, inputs, training=False)
    else:
        outputs = model(inputs)
    return keras.tree.map_structure(_stop_gradient, outputs)


def _stop_gradient(outputs):
    stopped = ops.stop_gradient(outputs)
    if are_marked(outputs):
        mark(stopped, ops.stop_gradient(to_logits(outputs)))
    return stopped


def _average(member_outputs, losses):
    """Averages one output of several teachers.

    Args:
        member_outputs: List of tensors.
        losses: The distillation losses of this output.

    Returns:
        Tensor, marked as logits.
    """
    loss = losses[0]
    for other in losses[1:]:
        if _averaging_key(other) != _averaging_key(loss):
            raise ValueError(
                "A list of teachers is averaged at the temperature of the "
                "distillation loss, so all losses of an output need the same "
                "`temperature`, `teacher_from_logits` and `axis`. Received: "
                f"{[_averaging_key(each) for each in losses]}"
            )
    logits = [
        to_logits(outputs, loss.teacher_from_logits, loss.teacher_log_zero)
        for outputs in member_outputs
    ]
    temperature = getattr(loss, "temperature_variable", 1.0)
    mean = arithmetic_mean_logits(
        [ops.cast(each, loss.dtype) for each in logits],
        ops.cast(temperature, loss.dtype),
        loss.axis,
    )
    # Logits from here on, whatever the outputs of the members were.
    average = ops.stop_gradient(mean)
    mark(average, mean)
    return average


def _averaging_key(loss):
    temperature = getattr(loss, "temperature", 1.0)
    return temperature, loss.teacher_from_logits, loss.axis


def _warn_of_shared_weights(teacher, student):
    of_student = {id(weight) for weight in student.trainable_weights}
    shared = [w.path for w in teacher.weights if id(w) in of_student]
    if shared:
        warnings.warn(
            "The teacher shares trainable weights with the student, so "
            "training the student changes the teacher. To prevent that set "
            f"`trainable = False` on the shared layers. Shared: {shared}",
            stacklevel=5,
        )


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

import functools

import keras
from keras import ops

from keras_distill.fingerprints import fingerprint_arrays
from keras_distill.logits import are_marked
from keras_distill.logits import to_logits


class Labeller(keras.Model):
    """A teacher as a Keras model, for the sake of its `predict`.

    Args:
        teacher: `Teacher`.
        distillation: `Distillation`: an ensemble is averaged at its
            temperature.
        output_names: Names of the student's outputs, or `None`.
        check: `BatchCheck` that is shown what the members of an ensemble
            return. Defaults to `None`: nobody looks.
        finish: Function of an output, which NumPy has to be able to hold after
            it. Defaults to `standardize`.
    """

    def __init__(
        self, teacher, distillation, output_names, check=None, finish=None
    ):
        super().__init__(autocast=False)
        self.teacher = teacher
        # What a compiled `predict` reads and writes has to be the model's.
        self._models = teacher.models()
        self._check_variables = check.variables if check else []
        self._distillation = distillation
        self._output_names = output_names
        self._look = check and functools.partial(check.look, "teacher")
        self._finish = finish or standardize
        self.known_logits = ()
        # Or Keras would call the teacher once more to find out.
        self.built = True

    def call(self, inputs):
        outputs = self.teacher(
            inputs, self._distillation, self._output_names, self._look
        )
        self.known_logits = tuple(
            are_marked(output) for output in keras.tree.flatten(outputs)
        )
        return keras.tree.map_structure(self._finish, outputs)

    def temperatures(self):
        """The temperatures on which the outputs depend, or `None`."""
        if not self.teacher.averages_at_a_temperature:
            return None
        return self._distillation.present_temperatures()

    def fingerprint(self):
        """Returns what is equal as long as the outputs are."""
        weights = self.teacher.weights()
        return (
            # Nobody knows what else a function depends on.
            object() if weights is None else id(self.teacher.given),
            fingerprint_arrays(weights or []),
            self.temperatures(),
            self.teacher.from_logits(self._distillation),
            self._distillation.all_axes(),
        )


def standardize(outputs, **kwargs):
    """Returns the logits of an output in a dtype that NumPy has.

    Args:
        outputs: Tensor, as `Teacher` returns it.
        **kwargs: More arguments of `to_logits`.

    Raises:
        ValueError: If they are no floating point numbers.
    """
    if not keras.backend.is_float_dtype(outputs.dtype):
        raise ValueError(
            "Expected floating point logits as soft targets. Received: "
            f"dtype={outputs.dtype}. Does the teacher return class ids?"
        )
    # NumPy has no bfloat16, and half precision is cast up by the losses.
    dtype = keras.backend.result_type(outputs.dtype, "float32")
    return ops.cast(to_logits(outputs, **kwargs), dtype)

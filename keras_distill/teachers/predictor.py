import keras

from keras_distill.targets import map_outputs


class TargetPredictor(keras.Model):
    """A teacher as a Keras model, to run it with `predict`."""

    def __init__(self, teacher, objective, check=None, finish=None):
        super().__init__(autocast=False)
        self.teacher = teacher
        # A compiled `predict` reads and writes only variables of the model.
        self._model = teacher.model
        self._objective = objective
        self._variables = [] if check is None else [check.report]
        self._check = check
        self._finish = finish
        # Otherwise Keras would call the teacher once more to find out.
        self.built = True

    def call(self, inputs):
        targets = self.teacher.compute_targets(
            inputs, self._objective, self._check
        )
        if self._finish is None:
            return targets
        return map_outputs(self._finish, targets)

    def temperatures(self):
        """Returns the temperatures that the outputs depend on, or `None`."""
        if not self.teacher.averages_at_a_temperature:
            return None
        return self._objective.temperatures()

    def fingerprint(self):
        """Returns a value that is equal as long as the outputs are."""
        objective = self._objective
        return (
            id(self.teacher.function),
            # Without a fingerprint, the outputs may depend on anything.
            self.teacher.fingerprint() or object(),
            self.temperatures(),
            objective.teacher_from_logits() if self.teacher.is_list else None,
            tuple(loss.axis for loss in objective.list_losses()),
        )

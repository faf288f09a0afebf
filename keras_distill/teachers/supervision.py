from keras_distill.data.cache import TargetCache
from keras_distill.targets import CheckedTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.targets import as_targets
from keras_distill.targets import map_outputs
from keras_distill.teachers.teacher import Teacher


class Supervision:
    """Decides where the soft targets of a batch come from.

    Soft targets in the data come first, then the cache, then the teacher. A
    plain object: Keras does not track it, so the teacher's weights are neither
    trained nor saved with the `Distiller`.

    Args:
        student: `keras.Model`.
        teacher: What the user passed as the teacher, or `None`.
    """

    def __init__(self, student, teacher):
        self._student = student
        self.cache = TargetCache()
        self.replace_teacher(teacher)

    def replace_teacher(self, teacher) -> None:
        """Replaces the teacher; a refused one leaves the former."""
        wrapped = None if teacher is None else Teacher(teacher)
        if wrapped is not None:
            wrapped.check_against(self._student)
        self.teacher = wrapped

    def find_targets(self, x, objective, output_names, inspect):
        """Returns the inputs of a batch, and the `Targets` of each output.

        Args:
            x: Inputs, or `WithSoftTargets`.
            objective: `Objective`.
            output_names: Names of the student's outputs, or `None`.
            inspect: Function `(outputs, axis)` that gets the outputs of
                ensemble members that are taken for logits.

        Returns:
            Inputs, and a structure of `Targets`; or `CheckedTargets` if they
            have been checked; or `None` if nobody has soft targets.
        """
        if isinstance(x, WithSoftTargets):
            if isinstance(x.soft_targets, CheckedTargets):
                return x
            return x.inputs, map_outputs(as_targets, x.soft_targets)
        if self.teacher is None:
            return x, None
        return x, self.teacher.compute_targets(
            x, objective, output_names, inspect
        )

    def check(self, objective) -> None:
        """Raises a `ValueError` if the soft targets no longer hold."""
        self.cache.check(self.teacher, objective.temperatures())
        if self.is_mean_at_a_temperature:
            objective.check_ensemble_temperatures()

    @property
    def is_mean_at_a_temperature(self) -> bool:
        """Whether the teacher's logits depend on the temperature."""
        return (
            self.teacher is not None and self.teacher.averages_at_a_temperature
        )

    def check_metrics(self, objective) -> None:
        """Refuses metrics at temperatures where an ensemble has no mean."""
        if not self.is_mean_at_a_temperature:
            return
        present = objective.temperatures() or (1.0,)
        for name, temperature in objective.temperature_of_metrics().items():
            if temperature not in present:
                raise ValueError(
                    "The mean of an ensemble is computed at the temperature of "
                    "the distillation loss, and holds at no other temperature: "
                    f"pass `temperature={present[0]:g}` to the metric "
                    f"{name!r}. Received: temperature={temperature:g}"
                )

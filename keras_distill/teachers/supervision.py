from keras_distill.data.cache import TargetCache
from keras_distill.teachers.predictor import TargetPredictor
from keras_distill.teachers.teacher import Teacher


class Supervision:
    """The teacher and the cache: where soft targets come from.

    A plain object: Keras does not track it, so the teacher's weights are not
    trained and not saved with the `Distiller`.

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
        # Whether the soft targets are means that depend on the temperature.
        self.averages = (
            wrapped is not None and wrapped.averages_at_a_temperature
        )

    def make_predictor(self, objective, check):
        """Returns the teacher as a `TargetPredictor`, `None` without one."""
        if self.teacher is None:
            return None
        return TargetPredictor(self.teacher, objective, check)

    def check(self, objective) -> None:
        """Raises a `ValueError` if the soft targets no longer hold."""
        self.cache.check(self.teacher, objective.temperatures())
        if self.averages:
            objective.check_ensemble_temperatures()

    def check_metrics(self, objective) -> None:
        """Refuses metrics at temperatures where an ensemble has no mean."""
        if not self.averages:
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

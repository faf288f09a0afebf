from keras_distill.data.cache import TargetCache
from keras_distill.teachers.teacher import Teacher


class Supervision:
    """The teacher and the cache: where soft targets come from."""

    def __init__(self, student, teacher):
        self._student = student
        self.cache = TargetCache()
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

    def check(self, objective) -> None:
        """Raises a `ValueError` if the soft targets no longer hold."""
        self.cache.check(self.teacher, objective.temperatures())
        if self.averages and objective.built:
            # A callback may have changed one of them.
            objective.ensemble_temperatures()

    def check_metrics(self, objective) -> None:
        """Raises if a metric needs another temperature than the ensemble."""
        if not self.averages:
            return
        present = objective.temperatures() or (1.0,)
        for name, temperature in objective.metric_temperatures().items():
            if temperature not in present:
                raise ValueError(
                    "The mean of an ensemble is computed at the temperature of "
                    "the distillation loss, and holds at no other temperature: "
                    f"pass `temperature={present[0]:g}` to the metric "
                    f"{name!r}. Received: temperature={temperature:g}"
                )

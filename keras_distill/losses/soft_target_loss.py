from keras import ops

from keras_distill.hyperparameter import Hyperparameter
from keras_distill.losses.distillation_loss import DistillationLoss
from keras_distill.losses.temperature import check_temperature
from keras_distill.losses.top_k import top_k_buckets


class SoftTargetLoss(DistillationLoss):
    """What the losses between distributions at a temperature share."""

    def __init__(
        self,
        temperature=4.0,
        from_logits=True,
        teacher_from_logits=None,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(
            from_logits=from_logits,
            teacher_from_logits=teacher_from_logits,
            axis=axis,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self._temperature = Hyperparameter(
            "temperature", temperature, check_temperature
        )

    @property
    def temperature(self):
        """The temperature, a float. Setting it needs no new `compile`.

        (On JAX so it is in a `Distiller`. Where another model is compiled with
        this loss, its program keeps the temperature that it began with.)
        """
        return self._temperature.value

    @temperature.setter
    def temperature(self, value):
        self._temperature.assign(value)

    @property
    def temperature_variable(self):
        """The non-trainable scalar variable that holds the temperature."""
        return self._temperature.variable

    def compare(self, teacher_logits, student_logits):
        temperature = ops.cast(self.temperature_variable, self.dtype)
        return self.at_temperature(teacher_logits, student_logits, temperature)

    def compare_top_k(self, targets, student_logits):
        temperature = ops.cast(self.temperature_variable, self.dtype)
        teacher_buckets, student_buckets = top_k_buckets(
            targets, student_logits, temperature
        )
        # They are at the temperature already.
        loss = self.at_temperature(teacher_buckets, student_buckets, 1.0)
        return loss * temperature**2

    def at_temperature(self, teacher_logits, student_logits, temperature):
        """Returns the loss of each sample at the temperature."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

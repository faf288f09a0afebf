from keras import ops

from keras_distill.hyperparameter import Hyperparameter
from keras_distill.losses.distillation_loss import DistillationLoss
from keras_distill.validation import check_number


def soften(logits, temperature, axis=-1):
    """Returns logits whose softmax is `softmax(logits / temperature)`.

    Hinton, Vinyals and Dean (2015), equation 1. The maximum of each row is
    taken off before the division: of two large logits the difference is what
    counts, and it is exact, while the difference of two rounded quotients is
    not (with logits of 1e4 it loses four digits in float32).

    Args:
        logits: Float tensor.
        temperature: Positive number or scalar tensor.
        axis: Axis of the classes.

    Returns:
        Tensor of the same shape, at most 0, with a 0 in each row.
    """
    largest = ops.max(logits, axis=axis, keepdims=True)
    return (logits - ops.stop_gradient(largest)) / temperature


def check_temperature(argument, value):
    """Returns a valid temperature as a float; raises `ValueError` else."""
    return check_number(argument, value, low=0, low_allowed=False)


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
        """The temperature, a float. Setting it needs no new `compile`."""
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

    def at_temperature(self, teacher_logits, student_logits, temperature):
        """Returns the loss of each sample at the temperature."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

from keras_distill.losses.distillation_loss import DistillationLoss


class SoftTargetLoss(DistillationLoss):
    """Base class of the losses between distributions at a temperature."""

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
        self.temperature = temperature

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "compare" in vars(cls):
            # A comparison of logits has no use for other targets.
            compare_targets = DistillationLoss.compare_targets
            setattr(cls, "compare_targets", compare_targets)  # noqa: B010

    def compare_targets(self, targets, student_logits):
        temperature = self._temperature
        log_p = targets.log_probabilities(temperature, self.axis)
        logits = targets.project(student_logits, temperature, self.axis)
        return temperature**2 * self.compare_distributions(log_p, logits)

    def compare_distributions(self, log_p, logits):
        """Returns the loss of each sample without the factor T^2."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

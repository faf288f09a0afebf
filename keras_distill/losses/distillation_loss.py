import typing

import keras
from keras import ops

from keras_distill.backend.keras_compat import get_keras_mask
from keras_distill.backend.keras_compat import reduce_weighted_values
from keras_distill.backend.keras_compat import to_snake_case
from keras_distill.hyperparameter import Hyperparameter
from keras_distill.targets import LOG_SMALLEST
from keras_distill.targets import LOG_ZERO
from keras_distill.targets import as_targets
from keras_distill.targets import count_classes
from keras_distill.targets import to_logits
from keras_distill.validation import check_flag
from keras_distill.validation import check_float_dtype
from keras_distill.validation import check_given
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperature
from keras_distill.validation import check_weight_rows
from keras_distill.validation import require_valid

# T^2 times the crossentropy of ten million classes is just below 65504.
_HIGHEST_IN_FLOAT16 = 60


@keras.saving.register_keras_serializable(package="keras_distill")
class DistillationLoss(keras.losses.Loss):
    """Base class of the losses between a teacher's and a student's logits.

    `y_true` is the teacher's outputs, and `y_pred` is the student's outputs.
    The loss has one value per sample, or per position if the outputs have more
    axes. No gradient flows into the teacher's side. Mask, sample weights and
    reduction work as in `keras.losses.Loss`.

    To write your own loss, implement `compare`. If your loss has a temperature,
    assign it to `self.temperature` in `__init__`. You can then change it during
    training. Inside of `compare`, `self.temperature` is a scalar tensor.

    Example:

    ```python
    import keras
    from keras import ops
    import keras_distill

    @keras.saving.register_keras_serializable()
    class Hinge(keras_distill.losses.DistillationLoss):
        def compare(self, teacher_logits, student_logits):
            gap = ops.abs(teacher_logits - student_logits)
            return ops.sum(ops.relu(gap - 1.0), axis=self.axis)
    ```

    Args:
        from_logits: Whether the outputs are logits (`True`) or probabilities
            (`False`). The loss takes the logarithm of probabilities. In a
            `Distiller`, a model that ends in a recognized softmax is always
            distilled on its logits. Defaults to `True`.
        teacher_from_logits: The same for `y_true` only. Defaults to `None`,
            which means the value of `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: Optional name of the loss. Defaults to the name of the class in
            snake case.
        dtype: Dtype of the computation. Defaults to `None`, which means
            `keras.backend.floatx()`. Outputs in float16 and bfloat16 are cast
            to it before anything else.

    Raises:
        ValueError: If a flag is not a bool, `axis` is not an integer, or
            `dtype` is not a floating point dtype.
    """

    # The logarithm of a probability of exactly 0. A teacher's zero stays zero
    # at every temperature. A student's zero is an underflow, and its loss has
    # to stay finite.
    teacher_log_zero = LOG_ZERO
    student_log_zero = LOG_SMALLEST

    _temperature: typing.Any = None

    def __init__(
        self,
        from_logits=True,
        teacher_from_logits=None,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        if name is None:
            # Keras would number it, and the logs get a new name each time.
            name = to_snake_case(type(self).__name__)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_float_dtype(self.dtype)
        if teacher_from_logits is None:
            teacher_from_logits = from_logits
        check_flag("from_logits", from_logits)
        check_flag("teacher_from_logits", teacher_from_logits)
        self.from_logits = from_logits
        self.teacher_from_logits = teacher_from_logits
        self.axis = check_integer("axis", axis)

    @property
    def temperature(self):
        """The temperature, or `None` for a loss without one.

        Setting it takes effect in the next training step of a `Distiller`,
        without a new `compile`. (On JAX, a model that is compiled with this
        loss directly keeps the temperature of its first step.)
        """
        if isinstance(self._temperature, Hyperparameter):
            return self._temperature.value
        return self._temperature

    @temperature.setter
    def temperature(self, value):
        if self._temperature is None:
            self._temperature = Hyperparameter(
                "temperature", value, self._check_temperature
            )
        else:
            self._temperature.assign(value)

    def _check_temperature(self, argument, value) -> float:
        temperature = check_temperature(argument, value)
        if self.dtype == "float16" and temperature > _HIGHEST_IN_FLOAT16:
            raise ValueError(
                f"In float16, the highest `{argument}` is "
                f"{_HIGHEST_IN_FLOAT16}, because the loss contains its square. "
                f'Pass `dtype="float32"`. Received: {argument}={value!r}'
            )
        return temperature

    @property
    def temperature_variable(self):
        """The variable that holds the temperature, or `None`."""
        if self._temperature is None:
            return None
        return self._temperature.variable

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = get_keras_mask(y_pred)
        values = self.call(y_true, y_pred)
        check_weight_rows(sample_weight, values)
        return self.reduce(values, sample_weight, mask)

    def call(self, y_true, y_pred):
        """Returns the loss of each sample."""
        check_given(y_true=y_true, y_pred=y_pred)
        y_true = keras.tree.map_structure(
            lambda x: ops.stop_gradient(ops.convert_to_tensor(x)), y_true
        )
        y_pred = ops.convert_to_tensor(y_pred)
        if not self.from_logits:
            y_pred = to_logits(y_pred, self.student_log_zero)
        targets = as_targets(y_true)
        temperature = None
        if self._temperature is not None:
            temperature = self._temperature.read()
        values = self.compute_values(targets, y_pred, temperature)
        classes = count_classes(y_pred.shape, self.axis)
        return require_valid(targets.are_valid_at(temperature, classes), values)

    def compute_values(self, targets, student_logits, temperature=None):
        """Returns the loss of each sample of `Targets` that hold at T."""
        targets = targets.to_logits(
            self.teacher_from_logits, self.teacher_log_zero, self.dtype
        )
        targets.check(student_logits.shape, self.axis)
        loss = self
        if temperature is not None:
            # In a copy, every reader of `self.temperature` sees the tensor.
            # (`copy.copy` serializes objects of Keras.)
            loss = object.__new__(type(self))
            loss.__dict__.update(self.__dict__)
            loss._temperature = ops.cast(temperature, self.dtype)
        return loss.compare_targets(
            targets, ops.cast(student_logits, self.dtype)
        )

    def reduce(self, values, sample_weight, mask):
        """Reduces the losses of all samples as Keras does."""
        if sample_weight is not None and mask is not None:
            # Keras multiplies the weights with the mask in place, in PyTorch.
            sample_weight = ops.copy(ops.convert_to_tensor(sample_weight))
        return reduce_weighted_values(
            values, sample_weight, mask, self.reduction, self.dtype
        )

    def compare_targets(self, targets, student_logits):
        """Returns the loss of each sample, for `Targets` with logits."""
        return self.compare(targets.all_logits(), student_logits)

    def compare(self, teacher_logits, student_logits):
        """Returns the loss of each sample.

        Args:
            teacher_logits: Tensor of shape `(batch, ..., classes)`.
            student_logits: Tensor of the same shape and dtype.

        Returns:
            Tensor of that shape without the axis of the classes.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has to implement "
            "`compare(teacher_logits, student_logits)`."
        )

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "teacher_from_logits": self.teacher_from_logits,
            "axis": self.axis,
            "dtype": self.dtype,
        }


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
            from_logits, teacher_from_logits, axis, reduction, name, dtype
        )
        self.temperature = temperature

    def compare_targets(self, targets, student_logits):
        if type(self).compare is not DistillationLoss.compare:
            # A subclass compares the logits of all classes.
            return super().compare_targets(targets, student_logits)
        temperature = self._temperature
        log_p = targets.log_probabilities(temperature, self.axis)
        logits = targets.project(student_logits, temperature, self.axis)
        return temperature**2 * self.compare_distributions(log_p, logits)

    def compare_distributions(self, log_p, logits):
        """Returns the loss of logits divided by T, without the factor T^2."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}

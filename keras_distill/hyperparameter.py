import keras


class Hyperparameter:
    """A scalar that may change during training without a retrace.

    The value lives in a non-trainable variable, so that a compiled training
    step reads it anew in every batch. The variable belongs to no layer: it is
    part of a configuration and not of the weights.

    Args:
        name: Name of the argument that it holds, for error messages.
        value: Initial value.
        check: Function `(name, value) -> float` that returns the value, or
            raises `ValueError` for one that is not allowed.
    """

    def __init__(self, name, value, check):
        self._name = name
        self._check = check
        self._value = check(name, value)
        self.variable = keras.Variable(
            self._value,
            # Half precision would round a temperature, or overflow.
            dtype="float64"
            if keras.config.floatx() == "float64"
            else "float32",
            trainable=False,
            name=name,
        )

    @property
    def value(self):
        """The present value, as a Python float."""
        return self._value

    def assign(self, value):
        """Sets the value, from the next batch on.

        Args:
            value: Number, checked like the initial one.

        Raises:
            ValueError: If the value is not allowed.
        """
        self._value = self._check(self._name, value)
        self.variable.assign(self._value)

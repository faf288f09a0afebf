import typing

import keras

from keras_distill.backend import is_inside_function
from keras_distill.backend import outside_of_functions
from keras_distill.backend.keras_compat import in_stateless_scope


class Hyperparameter:
    """A scalar that can change during training without a retrace.

    A compiled step reads it from a non-trainable variable. The variable belongs
    to no layer: it is a part of the configuration and not of the weights.
    """

    def __init__(self, name: str, value: float, check: typing.Callable):
        self._name = name
        self._check = check
        self._value = check(name, value)
        self._variable: typing.Any = None
        # It is built anew in each trace, where no variable can be created.
        self._is_constant = is_inside_function()

    @property
    def value(self) -> float:
        """The present value."""
        return self._value

    @property
    def variable(self):
        """The scalar variable, which is created on first use."""
        if self._variable is None:
            # Half precision would round a temperature, or overflow.
            wide = keras.config.floatx() == "float64"
            with outside_of_functions():
                self._variable = keras.Variable(
                    self._value,
                    dtype="float64" if wide else "float32",
                    trainable=False,
                    name=self._name,
                )
        return self._variable

    def read(self):
        """Returns the variable; or the value where none can be created."""
        # A model of Keras may be compiled with a loss directly.
        if self._variable is None and (
            self._is_constant or in_stateless_scope()
        ):
            return self._value
        return self.variable

    def assign(self, value) -> None:
        """Sets the value from the next batch on."""
        self._value = self._check(self._name, value)
        if self._variable is not None:
            self._variable.assign(self._value)

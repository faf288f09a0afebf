import keras
from keras import ops

from keras_distill.targets import is_float
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperature


def mask_logits(logits, mask):
    """Masks logits with the same number as `keras.layers.Softmax`."""
    if mask is None:
        return logits
    half = keras.backend.standardize_dtype(logits.dtype) == "float16"
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        mask = ops.greater(mask, 0.5)
    return ops.where(mask, logits, -3e4 if half else -1e9)


@keras.saving.register_keras_serializable(package="keras_distill")
class TemperatureSoftmax(keras.layers.Softmax):
    """Softmax at a temperature: `softmax(logits / temperature)`.

    This is equation 1 of Hinton, Vinyals and Dean (2015). A higher temperature
    gives a softer distribution over the classes. The layer divides by
    `temperature` in training (`model(x, training=True)`), and by
    `serving_temperature` in `predict`, `evaluate` and an exported model.

    A `keras_distill.Distiller` uses the temperature of the distillation loss.
    It distills a teacher or student that ends in this layer on the logits. The
    hard loss and the metrics get the probabilities at the serving temperature.

    Example:

    ```python
    student = keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(10),
        keras_distill.TemperatureSoftmax(temperature=4.0),
    ])
    ```

    Args:
        temperature: Float from 1e-3 to 1e4, for training. Defaults to `1.0`.
        serving_temperature: Float from 1e-3 to 1e4, for everything else.
            Defaults to `1.0`, as in the paper.
        axis: Integer, or list of integers: the axis or axes of the classes.
            Defaults to `-1`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        inputs: Logits, a float tensor of any shape.
        mask: Boolean tensor that broadcasts to `inputs`. Classes where it is
            `False` get probability 0.
        training: Whether to use `temperature` (`True`) or
            `serving_temperature`.

    Returns:
        Probabilities, in the shape of `inputs`.

    Raises:
        ValueError: If a temperature is not between 1e-3 and 1e4, `axis` is
            not an integer, or the inputs are integers.
    """

    def __init__(
        self, temperature=1.0, serving_temperature=1.0, axis=-1, **kwargs
    ):
        self._temperature = check_temperature("temperature", temperature)
        self._serving_temperature = check_temperature(
            "serving_temperature", serving_temperature
        )
        for number in axis if isinstance(axis, (list, tuple)) else [axis]:
            check_integer("axis", number)
        super().__init__(axis=axis, **kwargs)

    @property
    def temperature(self):
        """The temperature in training. Fixed, as compiled steps contain it."""
        return self._temperature

    @property
    def serving_temperature(self):
        """The temperature outside of training. Fixed."""
        return self._serving_temperature

    def call(self, inputs, mask=None, training=None):
        if not is_float(inputs):
            raise ValueError(
                "Expected floating point logits. Received: inputs of dtype "
                f"{keras.backend.standardize_dtype(inputs.dtype)}"
            )
        temperature = (
            self._temperature if training else self._serving_temperature
        )
        if temperature == 1.0:
            return super().call(inputs, mask=mask)
        # Differences of large logits are exact. Those of quotients are not.
        largest = ops.max(
            mask_logits(inputs, mask), axis=self.axis, keepdims=True
        )
        scaled = (inputs - ops.stop_gradient(largest)) / temperature
        return super().call(scaled, mask=mask)

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self._temperature,
            "serving_temperature": self._serving_temperature,
        }

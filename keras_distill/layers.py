import keras
from keras import ops

from keras_distill.validation import check_number


def mask_logits(logits, mask):
    """Replaces the logits where `mask` is False by a large negative number.

    The rule of `keras.layers.Softmax`, number included.

    Args:
        logits: Float tensor.
        mask: Boolean tensor that broadcasts to `logits`, or `None`.

    Returns:
        Tensor of the shape and dtype of `logits`.
    """
    if mask is None:
        return logits
    half = keras.backend.standardize_dtype(logits.dtype) == "float16"
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        mask = ops.greater(mask, 0.5)
    return ops.where(mask, logits, -3e4 if half else -1e9)


@keras.saving.register_keras_serializable(package="keras_distill")
class TemperatureSoftmax(keras.layers.Softmax):
    """Softmax at a temperature: `softmax(logits / temperature)`.

    Hinton, Vinyals and Dean (2015), equation 1. A higher temperature gives a
    softer distribution over the classes. A model that ends in this layer is
    trained at one temperature and serves at another, which is 1 as in the
    paper unless told otherwise: `model(x, training=True)` divides by
    `temperature`, `predict`, `evaluate` and an exported model divide by
    `serving_temperature`.

    Under a `keras_distill.Distiller` the temperature is that of the
    distillation loss: a teacher or student that ends in this layer is
    distilled on its logits, and the hard loss and the metrics see the
    probabilities at the serving temperature.

    Example:

    ```python
    import keras
    import keras_distill

    student = keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(10),
        keras_distill.TemperatureSoftmax(temperature=4.0),
    ])
    ```

    Args:
        temperature: Positive float. The temperature in training.
            Defaults to `1.0`.
        serving_temperature: Positive float. The temperature everywhere else.
            Defaults to `1.0`.
        axis: Integer, or list of integers: the axis or axes of the classes.
            Defaults to `-1`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        inputs: Logits, a float tensor of any shape.
        mask: Boolean tensor that broadcasts to `inputs`: classes where it is
            `False` get probability 0.
        training: Whether to use `temperature` (`True`) or
            `serving_temperature`.

    Returns:
        Probabilities, in the shape of `inputs`.

    Raises:
        ValueError: If a temperature is not a positive finite number.
    """

    def __init__(
        self, temperature=1.0, serving_temperature=1.0, axis=-1, **kwargs
    ):
        self._temperature = check_number(
            "temperature", temperature, low=0, low_allowed=False
        )
        self._serving_temperature = check_number(
            "serving_temperature",
            serving_temperature,
            low=0,
            low_allowed=False,
        )
        super().__init__(axis=axis, **kwargs)

    @property
    def temperature(self):
        """The temperature in training. Fixed, as compiled steps hold it."""
        return self._temperature

    @property
    def serving_temperature(self):
        """The temperature outside of training. Fixed."""
        return self._serving_temperature

    def call(self, inputs, mask=None, training=None):
        temperature = (
            self._temperature if training else self._serving_temperature
        )
        if temperature == 1.0:
            return super().call(inputs, mask=mask)
        # The maximum goes first: a difference of large logits is exact, the
        # difference of two rounded quotients is not.
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

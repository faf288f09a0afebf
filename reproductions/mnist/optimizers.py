"""Keras's Adam as the one operation that TensorFlow has for it."""

import keras
import tensorflow as tf


# Networks that were saved before this module moved name the package.
@keras.saving.register_keras_serializable(package="examples")
class FusedAdam(keras.optimizers.Adam):
    """Adam that goes over a variable once in a step.

    Keras's goes over it a dozen times: on a CPU, with layers as wide as these,
    that is a good part of the step. Formula and arguments are the same, but
    there is no `amsgrad`.
    """

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad:
            raise ValueError("Expected amsgrad=False. Received: amsgrad=True")
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )

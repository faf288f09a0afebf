import keras
from keras import ops

from keras_distill.losses.distillation_loss import SoftTargetLoss
from keras_distill.targets import restore_infinity


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargetCrossentropy(SoftTargetLoss):
    """Crossentropy with the teacher's soft targets, the paper's soft loss.

    Per sample, with `p` and `q` the teacher's and the student's softmax at
    temperature T:

        T^2 * -sum_i p_i log q_i

    (Hinton, Vinyals and Dean, 2015, section 2). The gradient with respect to
    the student's logits is `T (q - p)`. The smallest value is `T^2` times the
    entropy of the soft targets. `SoftTargetKLDivergence` has the same gradient,
    and its smallest value is 0.

    Example:

    With a `Distiller`:

    ```python
    distiller.compile(
        optimizer="adam",
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
    )
    ```

    Without a `Distiller`, if you have the teacher's logits:

    ```python
    student.compile(
        optimizer="adam",
        loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
    )
    student.fit(x, teacher.predict(x))
    ```

    Args:
        temperature: Float from 1e-3 to 1e4, the T of both softmaxes. Use 2 to 5
            for most models, and up to 20 for large students. `LogitMatching` is
            the limit for high T. Defaults to `4.0`.
        from_logits: Whether `y_true` and `y_pred` are logits (`True`, the
            default) or probabilities. The loss takes the logarithm of
            probabilities. A student's probability of exactly 0 counts as the
            smallest normal float32. A student's logit of minus infinity makes
            the loss infinite, unless the teacher also has it.
        teacher_from_logits: The same for `y_true` only. Defaults to `None`,
            which means the value of `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: Optional name of the loss.
        dtype: Dtype of the computation. Defaults to `None`, which means
            `keras.backend.floatx()`.

    Returns:
        A scalar, or a tensor of shape `(batch, ...)` with `reduction="none"`.

    Raises:
        ValueError: If an argument is not of the kind above. On call, if the
            outputs differ in shape.
    """

    def compare_distributions(self, log_p, logits):
        # TensorFlow has one operation for it. Its gradient is `q - p`.
        return restore_infinity(
            ops.categorical_crossentropy(
                ops.exp(log_p), logits, from_logits=True, axis=self.axis
            )
        )

import keras
from keras import ops

from keras_distill.losses.soft_target_loss import SoftTargetLoss


def crossentropy(log_p, student_logits, axis=-1):
    """Returns `-sum_i p_i log q_i` with `q` the softmax of the logits.

    Its gradient in the logits is `q - p`.

    Args:
        log_p: Float tensor: the logarithms of the teacher's probabilities.
        student_logits: Float tensor of the same shape.
        axis: Axis of the classes. Defaults to `-1`.
    """
    return ops.categorical_crossentropy(
        ops.exp(log_p), student_logits, from_logits=True, axis=axis
    )


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargetCrossentropy(SoftTargetLoss):
    """The paper's soft loss: crossentropy with the teacher's soft targets.

    Per sample, with `p` and `q` the teacher's and the student's softmax at
    temperature T:

        T^2 * -sum_i p_i log q_i

    (Hinton, Vinyals and Dean, 2015, section 2.) The gradient in the student's
    logits is `T (q - p)`. Its smallest value is `T^2` times the entropy of the
    soft targets; `SoftTargetKLDivergence` has the same gradient and goes to 0.

    Example:

    With a `Distiller`:

    ```python
    distiller.compile(
        optimizer="adam",
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
    )
    ```

    Without one, where the teacher's logits are at hand:

    ```python
    student.compile(
        optimizer="adam",
        loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
    )
    student.fit(x, teacher.predict(x))
    ```

    Args:
        temperature: Positive float, the T of both softmaxes. Between 2 and 5
            for most models, up to 20 for large students. Defaults to `4.0`.
        from_logits: Whether `y_true` and `y_pred` are logits (`True`, the
            default) or probabilities. Of probabilities the logarithm is
            taken; a student's probability of exactly 0 counts as the smallest
            normal float32.
        teacher_from_logits: The same for `y_true` alone. Defaults to `None`:
            as `from_logits`.
        axis: Integer, the axis of the classes. Defaults to `-1`.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: Optional name of the loss.
        dtype: Dtype of the computation. Defaults to `None`:
            `keras.backend.floatx()`.

    Returns:
        A scalar, or a tensor of shape `(batch, ...)` under
        `reduction="none"`.

    Raises:
        ValueError: If an argument is not of the kind above, and on call if
            the outputs differ in shape.
    """

    def compare_distributions(self, log_p, student_logits):
        return crossentropy(log_p, student_logits, self.axis)

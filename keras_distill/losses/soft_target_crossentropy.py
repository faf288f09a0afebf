import keras
from keras import ops

from keras_distill.losses.soft_target_loss import SoftTargetLoss
from keras_distill.losses.temperature import soften


def soft_target_crossentropy(
    teacher_logits, student_logits, temperature=1.0, axis=-1
):
    """Crossentropy between two softmaxes at a temperature, times T^2.

    With `p = softmax(v / T)` of the teacher's logits `v` and
    `q = softmax(z / T)` of the student's logits `z`:

        T^2 * -sum_i p_i log q_i

    Its gradient in `z` is `T (q - p)` (Hinton, Vinyals and Dean, 2015,
    equation 2, times T^2), which stays of the same size at every T, so that
    soft and hard losses keep their balance (their section 2).

    Args:
        teacher_logits: Float tensor of shape `(..., classes)`.
        student_logits: Tensor of the same shape and dtype.
        temperature: Positive number or scalar tensor. Defaults to `1.0`.
        axis: Axis of the classes. Defaults to `-1`.

    Returns:
        Tensor of shape `(...)`, at least 0.
    """
    soft_targets = ops.softmax(
        soften(teacher_logits, temperature, axis), axis=axis
    )
    crossentropy = ops.categorical_crossentropy(
        soft_targets,
        soften(student_logits, temperature, axis),
        from_logits=True,
        axis=axis,
    )
    return crossentropy * temperature**2


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

    def at_temperature(self, teacher_logits, student_logits, temperature):
        return soft_target_crossentropy(
            teacher_logits, student_logits, temperature, self.axis
        )

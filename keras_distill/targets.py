"""Soft targets: what a teacher predicts, in the forms that a loss can use.

Each class below is the soft targets of one output for a batch. All of them have
the methods of `Targets`, so that a loss, a metric or a store never asks which
one it has. They are named tuples: every backend and every data pipeline slices
them, stacks them and passes them into a compiled step.
"""

import typing

import keras
import numpy as np
from keras import ops

from keras_distill.temperature import soften
from keras_distill.temperature import to_logits
from keras_distill.validation import check_choice
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperatures
from keras_distill.validation import shapes_agree

# The dtypes that logits can be rounded to.
TARGET_DTYPES = ("float16", "float32")
# A logit, or the logarithm of a probability, that adds nothing to a sum.
_LOWEST = -1e30


class WithSoftTargets(typing.NamedTuple):
    """Inputs of the student together with their soft targets.

    Pass it in the place of the inputs `x` wherever Keras takes data: in `fit`,
    `evaluate` and `train_on_batch`, and as the first part of the elements of a
    dataset. Labels and sample weights keep their place.

    Example:

    ```python
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("adam")
    distiller.fit(keras_distill.WithSoftTargets(x, teacher_logits), y)
    ```

    Args:
        inputs: Inputs of the student: a tensor, or a structure of tensors.
        soft_targets: The teacher's logits of shape `(batch, ..., classes)`;
            or `TopKTargets`, or `EnsembleTargets`; in the structure of the
            student's outputs. A distillation loss with
            `teacher_from_logits=False` takes them as probabilities.
    """

    inputs: typing.Any
    soft_targets: typing.Any


class Targets(typing.Protocol):
    """What a loss, a metric or a training step asks of soft targets."""

    def raw_outputs(self):
        """Returns outputs that may be logits or probabilities, or `None`."""

    def to_logits(self, from_logits, log_zero) -> "Targets":
        """Returns targets that hold logits."""

    def cast(self, dtype) -> "Targets":
        """Returns targets with floating point numbers of a dtype."""

    def check(self, student_shape, axis) -> None:
        """Raises a `ValueError` if a student of this shape cannot match."""

    def serves(self, temperature, num_classes):
        """Whether they hold at a temperature: a bool, or a tensor of them."""

    def log_probabilities(self, temperature, axis):
        """Returns the logarithm of the teacher's softmax at a temperature."""

    def project(self, student_logits, temperature, axis):
        """Returns logits of the student for the same events."""

    def all_logits(self):
        """Returns the logits of all classes."""

    def most_likely(self, axis):
        """Returns the teacher's most likely class of each sample."""

    def are_finite(self):
        """Returns, for each sample, whether all numbers are finite."""

    def mask(self, rows) -> "Targets":
        """Returns zeros for the samples where `rows` is False."""


class DenseTargets(typing.NamedTuple):
    """The logits of all classes, of shape `(batch, ..., classes)`."""

    logits: typing.Any

    def raw_outputs(self):
        return None

    def to_logits(self, from_logits, log_zero):
        return self

    def cast(self, dtype):
        return DenseTargets(ops.cast(self.logits, dtype))

    def check(self, student_shape, axis):
        _check_shapes(self.logits.shape, student_shape, axis)

    def serves(self, temperature, num_classes):
        return True

    def log_probabilities(self, temperature, axis):
        return ops.log_softmax(soften(self.logits, temperature, axis), axis)

    def project(self, student_logits, temperature, axis):
        return soften(student_logits, temperature, axis)

    def all_logits(self):
        return self.logits

    def most_likely(self, axis):
        return ops.argmax(self.logits, axis=axis)

    def are_finite(self):
        return _are_finite(self.logits)

    def mask(self, rows):
        return DenseTargets(_mask(self.logits, rows))


class OutputTargets(typing.NamedTuple):
    """Outputs of a teacher: logits or probabilities, which the loss knows."""

    outputs: typing.Any

    def raw_outputs(self):
        return self.outputs

    def to_logits(self, from_logits, log_zero):
        if from_logits:
            return DenseTargets(self.outputs)
        return DenseTargets(to_logits(self.outputs, log_zero))

    def serves(self, temperature, num_classes):
        return True

    def are_finite(self):
        return _are_finite(self.outputs)

    def mask(self, rows):
        return OutputTargets(_mask(self.outputs, rows))


class EnsembleTargets(typing.NamedTuple):
    """Logits of a mean of probabilities, which hold at one temperature only.

    Args:
        logits: Float tensor of shape `(batch, ..., classes)`.
        temperatures: Float tensor of shape `(batch, 1)`: the temperature.
    """

    logits: typing.Any
    temperatures: typing.Any

    def raw_outputs(self):
        return None

    def to_logits(self, from_logits, log_zero):
        return self

    def cast(self, dtype):
        return EnsembleTargets(
            ops.cast(self.logits, dtype), ops.cast(self.temperatures, dtype)
        )

    def check(self, student_shape, axis):
        _check_shapes(self.logits.shape, student_shape, axis)

    def serves(self, temperature, num_classes):
        return ops.all(_are_equal(self.temperatures, temperature))

    def log_probabilities(self, temperature, axis):
        return ops.log_softmax(soften(self.logits, temperature, axis), axis)

    def project(self, student_logits, temperature, axis):
        return soften(student_logits, temperature, axis)

    def all_logits(self):
        return self.logits

    def most_likely(self, axis):
        return ops.argmax(self.logits, axis=axis)

    def are_finite(self):
        return _are_finite(self.logits)

    def mask(self, rows):
        return self._replace(logits=_mask(self.logits, rows))


class TopKTargets(typing.NamedTuple):
    """The k largest of a teacher's logits, and the mass of all other classes.

    With `v` the logits less the largest one, `K` the k classes, and `rest` for
    the temperature T, the teacher's probabilities are

        log Z    = log(sum_{i in K} exp(v_i / T) + exp(rest))
        log p_i  = v_i / T - log Z        for i in K
        log p_R  = rest - log Z           for all other classes together

    A loss compares these k + 1 probabilities with the student's. How teacher
    and student distribute the mass within the rest is not compared. For the
    crossentropy and the divergence this gives a lower bound, which is exact
    where both distribute the rest alike. The gradient of the crossentropy
    times T^2 in the student's logits is

        T (q_i - p_i)                for i in K
        T q_j (1 - p_R / q_R)        for the other classes

    The mass of the rest at another temperature is unknown. If the temperature
    of a loss is not one of `temperatures`, `fit` raises an error. The mass is
    stored as the log-sum-exp of the rest, because the difference 1 - sum_K p_i
    loses its digits where the rest is small.

    `top_k_targets` makes them, and a `SoftTargetStore` returns them. The losses
    accept them in the place of logits of shape `(batch, ..., num_classes)`.

    Example:

    ```python
    targets = keras_distill.top_k_targets(teacher_logits, k=3)
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("adam")
    distiller.fit(x, soft_targets=targets)
    ```

    Args:
        logits: Float tensor of shape `(batch, ..., k)`: the k largest logits
            in descending order, less the largest one. The first one is 0.
        classes: Integer tensor of shape `(batch, ..., k)`: their classes.
        rest: Float tensor of shape `(batch, ..., temperatures)`: the logarithm
            of the sum of `exp(v / T)` over all other classes.
        temperatures: Float tensor of shape `(batch, ..., temperatures)`: the
            T of each `rest`. The same for all samples.
        num_classes: Integer tensor of shape `(batch, ...)`: the number of all
            classes. The same for all samples.
    """

    logits: typing.Any
    classes: typing.Any
    rest: typing.Any
    temperatures: typing.Any
    num_classes: typing.Any

    def raw_outputs(self):
        return None

    def to_logits(self, from_logits, log_zero):
        return self

    def cast(self, dtype):
        return TopKTargets(
            ops.cast(self.logits, dtype),
            ops.cast(self.classes, "int32"),
            ops.cast(self.rest, dtype),
            ops.cast(self.temperatures, dtype),
            ops.cast(self.num_classes, "int32"),
        )

    def check(self, student_shape, axis):
        shape = tuple(self.logits.shape)
        if axis not in (-1, len(student_shape) - 1):
            raise ValueError(
                "Top-k targets have the classes in the last axis. "
                f"Received: axis={axis}"
            )
        if (
            not shapes_agree(shape[:-1], tuple(student_shape[:-1]))
            or not shape[-1] < student_shape[-1]
        ):
            raise ValueError(
                "Expected top-k targets of the student's shape, with fewer "
                f"classes than the student. Received: logits of shape {shape}, "
                f"and a student's of {tuple(student_shape)}"
            )

    def serves(self, temperature, num_classes):
        known = ops.any(_are_equal(self.temperatures, temperature), axis=-1)
        same = ops.equal(ops.cast(self.num_classes, "int32"), num_classes)
        return ops.all(ops.logical_and(known, same))

    def log_probabilities(self, temperature, axis):
        matches = _are_equal(self.temperatures, temperature)
        rest = ops.sum(
            ops.where(matches, self.rest, 0.0), axis=-1, keepdims=True
        )
        return ops.log_softmax(
            ops.concatenate([self.logits / temperature, rest], axis=-1)
        )

    def project(self, student_logits, temperature, axis):
        softened = soften(student_logits, temperature)
        classes = ops.cast(self.classes, "int32")
        rest = _log_sum_exp_without(softened, classes)
        top = ops.take_along_axis(softened, classes, axis=-1)
        return ops.concatenate([top, rest], axis=-1)

    def all_logits(self):
        raise ValueError(
            "Expected the logits of all classes. `SoftTargetCrossentropy` and "
            "`SoftTargetKLDivergence` also accept the k largest ones. "
            "Received: soft targets of type TopKTargets"
        )

    def most_likely(self, axis):
        return self.classes[..., 0]

    def are_finite(self):
        return ops.logical_and(_are_finite(self.logits), _are_finite(self.rest))

    def mask(self, rows):
        return self._replace(
            logits=_mask(self.logits, rows), rest=_mask(self.rest, rows)
        )


class CheckedTargets(typing.NamedTuple):
    """Soft targets that are parsed and contain no NaN and no infinity.

    Args:
        by_output: The `Targets` of each output, in the structure of the
            outputs.
        rows: Boolean tensor of shape `(batch,)`: the samples to train on.
            `None` means all samples.
    """

    by_output: typing.Any
    rows: typing.Any = None


def top_k_targets(logits, k, temperatures=(1.0, 4.0), dtype="float32"):
    """Keeps the k largest logits of each sample, and the mass of the others.

    Example:

    ```python
    targets = keras_distill.top_k_targets(
        teacher_logits, k=3, temperatures=(4.0,)
    )
    loss = keras_distill.losses.SoftTargetCrossentropy(temperature=4.0)
    value = loss(targets, student(x))
    ```

    Args:
        logits: Float tensor of shape `(batch, ..., classes)`.
        k: Integer from 1 to `classes - 1`.
        temperatures: The temperatures that losses may use: distinct positive
            numbers. Defaults to `(1.0, 4.0)`.
        dtype: `"float16"` rounds the k logits to half precision, as a
            `SoftTargetStore` does. Defaults to `"float32"`.

    Returns:
        `TopKTargets`.

    Raises:
        ValueError: If an argument is not of the kind above.
    """
    logits = ops.convert_to_tensor(logits)
    if not keras.backend.is_float_dtype(logits.dtype):
        raise ValueError(
            "Expected floating point logits. Received: logits of dtype "
            f"{keras.backend.standardize_dtype(logits.dtype)}"
        )
    num_classes = logits.shape[-1]
    check_integer("k", k, low=1, high=num_classes - 1)
    check_choice("dtype", dtype, TARGET_DTYPES)
    temperatures = check_temperatures(temperatures)
    wide = keras.backend.result_type(logits.dtype, "float32")
    logits = ops.cast(logits, wide)
    shifted = logits - ops.max(logits, axis=-1, keepdims=True)
    kept, classes = ops.top_k(shifted, k, sorted=True)
    if dtype == "float16":
        kept = ops.cast(round_to_half(kept), wide)
    rest = ops.concatenate(
        [
            _log_sum_exp_without(shifted / temperature, classes)
            for temperature in temperatures
        ],
        axis=-1,
    )
    return TopKTargets(
        kept,
        classes,
        rest,
        ops.zeros_like(rest) + np.array(temperatures, wide),
        ops.full_like(classes[..., 0], num_classes),
    )


def round_to_half(shifted):
    """Rounds logits, less the largest one, to half precision.

    The lowest number of half precision stands for all lower ones. It means a
    probability of 0 at every temperature up to 600.
    """
    return ops.cast(ops.maximum(shifted, -65504.0), "float16")


def as_targets(soft_targets):
    """Returns the soft targets of one output as `Targets`."""
    if isinstance(soft_targets, _KINDS):
        return soft_targets
    return OutputTargets(_to_float_tensor(soft_targets))


def map_outputs(function, soft_targets):
    """Calls a function with the soft targets of each output.

    Args:
        function: Function of a tensor or `Targets`. It must not return `None`.
        soft_targets: Structure of tensors or `Targets`.

    Returns:
        The results, in the structure of the outputs.
    """

    def visit(node):
        is_output = isinstance(node, _KINDS) or not keras.tree.is_nested(node)
        return function(node) if is_output else None

    return keras.tree.traverse(visit, soft_targets)


def flatten_outputs(soft_targets) -> list:
    """Lists the soft targets of each output, in flat order."""
    flat: list = []

    def add(target):
        flat.append(target)
        return 0

    map_outputs(add, soft_targets)
    return flat


_KINDS = (DenseTargets, OutputTargets, EnsembleTargets, TopKTargets)


def _to_float_tensor(outputs):
    outputs = ops.convert_to_tensor(outputs)
    dtype = keras.backend.standardize_dtype(outputs.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "Expected floating point logits as soft targets. "
            f"Received: dtype={dtype}. Are these labels or class ids?"
        )
    return outputs


def _are_equal(temperatures, temperature):
    # Equal up to the rounding of a dtype.
    return ops.abs(temperatures - temperature) <= 1e-6 * temperature


def _are_finite(x):
    """Returns a boolean tensor of shape `(batch,)`."""
    return ops.all(ops.isfinite(x), axis=tuple(range(1, len(x.shape))))


def _mask(x, rows):
    """Returns zeros in the place of the samples where `rows` is False."""
    rows = ops.reshape(rows, (-1,) + (1,) * (len(x.shape) - 1))
    return ops.where(rows, x, ops.zeros_like(x))


def _log_sum_exp_without(logits, classes):
    """Returns the log-sum-exp over all classes except some, with its axis."""
    shape = ops.shape(logits)
    k = classes.shape[-1]
    rows = ops.reshape(logits, (-1, shape[-1]))
    columns = ops.reshape(ops.cast(classes, "int32"), (-1,))
    owners = ops.repeat(ops.arange(ops.shape(rows)[0], dtype="int32"), k)
    lowered = ops.scatter_update(
        rows,
        ops.stack([owners, columns], axis=-1),
        ops.full((ops.shape(columns)[0],), _LOWEST, dtype=rows.dtype),
    )
    return ops.logsumexp(ops.reshape(lowered, shape), axis=-1, keepdims=True)


def _check_shapes(teacher_shape, student_shape, axis):
    if len(teacher_shape) != len(student_shape):
        raise ValueError(
            "Expected the teacher's logits (`y_true`) and the student's "
            "(`y_pred`) to have the same rank; are these labels? Received "
            f"shapes: {tuple(teacher_shape)} and {tuple(student_shape)}"
        )
    if not -len(student_shape) <= axis < len(student_shape):
        raise ValueError(
            f"`axis={axis}` does not exist in outputs of shape "
            f"{tuple(student_shape)}."
        )
    if not shapes_agree(teacher_shape, student_shape):
        raise ValueError(
            "Expected the teacher's logits (`y_true`) and the student's "
            "(`y_pred`) to have the same shape, with the same number of "
            f"classes. Received shapes: {tuple(teacher_shape)} and "
            f"{tuple(student_shape)}"
        )
    if student_shape[axis] == 1:
        raise ValueError(
            "Expected at least two classes: the softmax of one logit is always "
            "1, and there is nothing to learn from it. For a binary classifier "
            "with one logit z, use two logits (0, z): "
            "`keras.ops.pad(z, [[0, 0], [1, 0]])`. Received: outputs of shape "
            f"{tuple(student_shape)}"
        )

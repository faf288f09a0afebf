"""Soft targets: what a teacher predicts, in the forms that a loss can use.

Each class below holds the soft targets of one output for a batch. They share
the methods of `Targets`, so losses, metrics and stores need no `isinstance`.
Call `to_logits` first, because `OutputTargets` may be probabilities. All are
named tuples, which every backend and data pipeline can slice, stack and pass
into a compiled step.
"""

import abc
import inspect
import typing

import keras
from keras import ops

from keras_distill.validation import shapes_agree

# The logarithm of the smallest normal float32: a probability that underflowed.
LOG_SMALLEST = -87.33654
# A logit, or the logarithm of a probability, that adds nothing to a sum.
LOG_ZERO = -1e30
# Stands for minus infinity, because 0 * inf is NaN.
_FINITE_INFINITY = 3e38


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


class Targets(abc.ABC):
    """Soft targets of one output. By default, the logits of all classes."""

    logits: typing.Any
    _replace: typing.Callable

    def raw_outputs(self):
        """Returns outputs that may be logits or probabilities, or `None`."""
        return None

    def to_logits(self, from_logits: bool, log_zero: float, dtype=None):
        """Returns targets that hold logits, in a dtype if it is given."""
        if dtype is None:
            return self
        return keras.tree.map_structure(
            lambda x: ops.cast(x, dtype) if is_float(x) else x, self
        )

    def check(self, student_shape: tuple, axis: int) -> None:
        """Raises a `ValueError` if a student of this shape cannot match."""
        _check_shapes(self.logits.shape, student_shape, axis)

    def are_valid_at(self, temperature, num_classes: int):
        """Whether they hold at a temperature: `True`, or a boolean tensor."""
        return True

    def log_probabilities(self, temperature, axis: int):
        """Returns the logarithm of the teacher's softmax at a temperature."""
        return log_softmax(self.logits, temperature, axis)

    def project(self, student_logits, temperature, axis: int):
        """Returns student logits that correspond to `log_probabilities`."""
        return soften(student_logits, temperature, axis)

    def all_logits(self):
        """Returns the logits of all classes."""
        return self.logits

    def most_likely(self, axis: int):
        """Returns the teacher's most likely class of each sample."""
        return ops.argmax(self.logits, axis=axis)

    def are_finite(self):
        """Returns, for each sample, whether all numbers are finite."""
        return _are_finite(self.logits)

    def mask(self, rows):
        """Returns zeros for the samples where `rows` is False."""
        return self._replace(logits=mask_rows(self.logits, rows))


def _register(cls: typing.Any) -> typing.Any:
    """Makes a named tuple a subclass of `Targets`, with its methods."""
    # PyTorch 2.6 does not recognize a named tuple that has a base class.
    for name, method in inspect.getmembers(Targets, inspect.isfunction):
        if name not in vars(cls):
            setattr(cls, name, method)
    return Targets.register(cls)


@_register
class DenseTargets(typing.NamedTuple):
    """The logits of all classes, of shape `(batch, ..., classes)`."""

    logits: typing.Any


@_register
class OutputTargets(typing.NamedTuple):
    """Outputs of a teacher: logits or probabilities, which the loss knows."""

    logits: typing.Any

    def raw_outputs(self):
        return self.logits

    def to_logits(self, from_logits, log_zero, dtype=None):
        logits = self.logits
        if not from_logits:
            logits = to_logits(logits, log_zero)
        dense: typing.Any = DenseTargets(logits)
        return dense.to_logits(True, log_zero, dtype)


@_register
class EnsembleTargets(typing.NamedTuple):
    """Logits of a mean of probabilities, which hold at one temperature only.

    Example:

    ```python
    targets = keras_distill.EnsembleTargets(
        logits=teacher_logits,
        temperatures=np.full((len(teacher_logits), 1), 4.0, "float32"),
    )
    loss = keras_distill.losses.SoftTargetCrossentropy(temperature=4.0)
    print(loss(targets, student.predict(x)))
    ```

    Args:
        logits: Float tensor of shape `(batch, ..., classes)`.
        temperatures: Float tensor of shape `(batch, 1)`: the temperature.
    """

    logits: typing.Any
    temperatures: typing.Any

    def are_valid_at(self, temperature, num_classes):
        # A loss without a temperature needs the mean at 1.
        temperature = 1.0 if temperature is None else temperature
        return ops.all(_are_equal(self.temperatures, temperature))


@_register
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

    def are_valid_at(self, temperature, num_classes):
        if temperature is None:
            # No loss without a temperature accepts them.
            return True
        known = ops.any(_are_equal(self.temperatures, temperature), axis=-1)
        same = ops.equal(ops.cast(self.num_classes, "int32"), num_classes)
        return ops.all(ops.logical_and(known, same))

    def log_probabilities(self, temperature, axis):
        matches = _are_equal(self.temperatures, temperature)
        rest = ops.sum(
            ops.where(matches, self.rest, 0.0), axis=-1, keepdims=True
        )
        return ops.log_softmax(
            _to_finite(
                ops.concatenate([self.logits / temperature, rest], axis=-1)
            )
        )

    def project(self, student_logits, temperature, axis):
        softened = soften(student_logits, temperature)
        # `are_valid_at` finds targets for more classes than the student has.
        last = student_logits.shape[-1] - 1
        classes = ops.minimum(ops.cast(self.classes, "int32"), last)
        rest = log_sum_exp_without(softened, classes)
        top = ops.take_along_axis(softened, classes, axis=-1)
        return ops.concatenate([top, rest], axis=-1)

    def all_logits(self):
        raise ValueError(
            "Expected the logits of all classes. `SoftTargetCrossentropy` and "
            "`SoftTargetKLDivergence` also accept the k largest ones. "
            "Received: soft targets of type TopKTargets"
        )

    def most_likely(self, axis):
        return ops.cast(self.classes[..., 0], "int32")

    def are_finite(self):
        return ops.logical_and(_are_finite(self.logits), _are_finite(self.rest))

    def mask(self, rows):
        return self._replace(
            logits=mask_rows(self.logits, rows), rest=mask_rows(self.rest, rows)
        )


class CheckedTargets(typing.NamedTuple):
    """Soft targets that are parsed and contain no NaN and no infinity."""

    # The `Targets` of each output, in the structure of the outputs.
    by_output: typing.Any
    # Boolean tensor: the samples to train on. `None` means all samples.
    rows: typing.Any = None


def soften(logits, temperature, axis=-1):
    """Returns logits whose softmax is `softmax(logits / temperature)`.

    Hinton, Vinyals and Dean (2015), equation 1. The maximum of each row is
    subtracted before the division. The difference of two large logits is exact,
    while the difference of two rounded quotients is not: with logits of 1e4 it
    loses four digits in float32. A logit of minus infinity becomes finite, and
    keeps the probability 0.
    """
    return _to_finite(subtract_maximum(logits, axis) / temperature)


def subtract_maximum(logits, axis=-1):
    """Returns logits minus the largest one of each row, which is exact."""
    logits = ops.convert_to_tensor(logits)
    largest = ops.max(logits, axis=axis, keepdims=True)
    return logits - ops.stop_gradient(largest)


def _to_finite(logits):
    """Replaces minus infinity by a finite number."""
    half = keras.backend.standardize_dtype(logits.dtype) == "float16"
    return ops.maximum(logits, -65504.0 if half else -_FINITE_INFINITY)


def restore_infinity(values):
    """Returns infinity for values that `soften` made finite, but very large."""
    return ops.where(values > 1e30, float("inf"), values)


def log_softmax(logits, temperature, axis=-1):
    """Returns the logarithm of `softmax(logits / temperature)`."""
    return ops.log_softmax(soften(logits, temperature, axis), axis=axis)


def to_logits(probabilities, log_zero):
    """Returns the logarithm of probabilities, with `log_zero` for log(0)."""
    # Half precision has too few digits for a logarithm.
    dtype = keras.backend.result_type(probabilities.dtype, "float32")
    probabilities = ops.cast(probabilities, dtype)
    # A NaN is not zero: its logarithm is NaN.
    is_zero = probabilities <= 0
    # The inner `where` keeps log(0) out of the gradient of the outer one.
    logarithm = ops.log(ops.where(is_zero, 1.0, probabilities))
    return ops.where(is_zero, log_zero, logarithm)


def as_targets(soft_targets):
    """Returns the soft targets of one output as `Targets`."""
    if isinstance(soft_targets, Targets):
        return soft_targets
    outputs = ops.convert_to_tensor(soft_targets)
    if not is_float(outputs):
        raise ValueError(
            "Expected floating point logits as soft targets. Received: dtype="
            f"{keras.backend.standardize_dtype(outputs.dtype)}. Are these "
            "labels or class ids?"
        )
    return OutputTargets(outputs)


def is_one_output(structure) -> bool:
    """Whether a structure is what belongs to one output."""
    return isinstance(structure, Targets) or not keras.tree.is_nested(structure)


def map_outputs(function, structure):
    """Calls a function with the part of a structure for each output."""
    if isinstance(structure, Targets):
        return function(structure)
    return keras.tree.traverse(
        lambda node: function(node) if is_one_output(node) else None, structure
    )


def flatten_outputs(structure) -> list:
    """Lists the part of a structure for each output, in flat order."""
    if isinstance(structure, Targets):
        return [structure]
    # `keras.tree` does not look into functions.
    hidden = map_outputs(lambda part: lambda: part, structure)
    return [part() for part in keras.tree.flatten(hidden)]


def flatten_like(outputs, structure, name: str) -> list:
    """Returns the parts of a structure in the flat order of the outputs."""
    if not keras.tree.is_nested(outputs) and is_one_output(structure):
        return [structure]
    # `keras.tree` does not look into functions.
    hidden = map_outputs(lambda part: lambda: part, structure)
    received = keras.tree.flatten_with_path(hidden)
    expected = keras.tree.flatten_with_path(outputs)
    if [path for path, _ in expected] != [path for path, _ in received]:
        raise ValueError(
            f"Expected `{name}` to have the structure of the outputs, "
            f"{_describe(outputs)}. Received: {_describe(structure)}"
        )
    return [part() for _, part in received]


def _describe(structure):
    return keras.tree.map_structure(
        lambda x: tuple(getattr(x, "shape", ())), structure
    )


def is_float(x) -> bool:
    """Whether a tensor has floating point numbers."""
    return keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    )


def _are_equal(temperatures, temperature):
    # Equal up to the rounding of a dtype.
    return ops.abs(temperatures - temperature) <= 1e-6 * temperature


def _are_finite(x):
    """Returns a boolean tensor of shape `(batch,)`."""
    finite = ops.isfinite(x)
    # In PyTorch, Keras 3.14 cannot reduce several axes at once.
    for axis in reversed(range(1, len(x.shape))):
        finite = ops.all(finite, axis=axis)
    return finite


def mask_rows(x, rows):
    """Returns zeros in the place of the samples where `rows` is False."""
    rows = ops.reshape(rows, (-1,) + (1,) * (len(x.shape) - 1))
    return ops.where(rows, x, ops.cast(0, x.dtype))


def log_sum_exp_without(logits, classes):
    """Returns the log-sum-exp over all classes except some, with its axis."""
    shape = ops.shape(logits)
    k = classes.shape[-1]
    rows = ops.reshape(logits, (-1, shape[-1]))
    columns = ops.reshape(ops.cast(classes, "int32"), (-1,))
    owners = ops.repeat(ops.arange(ops.shape(rows)[0], dtype="int32"), k)
    lowered = ops.scatter_update(
        rows,
        ops.stack([owners, columns], axis=-1),
        ops.full((ops.shape(columns)[0],), LOG_ZERO, dtype=rows.dtype),
    )
    return ops.logsumexp(ops.reshape(lowered, shape), axis=-1, keepdims=True)


def count_classes(shape, axis: int):
    """Returns the number of classes of outputs with a shape."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            "Expected `axis` to be an axis of the outputs. Received: "
            f"axis={axis}, and outputs of shape {tuple(shape)}"
        )
    return shape[axis]


def _check_shapes(teacher_shape, student_shape, axis):
    if len(teacher_shape) != len(student_shape):
        raise ValueError(
            "Expected the teacher's logits (`y_true`) and the student's "
            "(`y_pred`) to have the same rank; are these labels? Received "
            f"shapes: {tuple(teacher_shape)} and {tuple(student_shape)}"
        )
    classes = count_classes(student_shape, axis)
    if teacher_shape != student_shape and not shapes_agree(
        teacher_shape, student_shape
    ):
        raise ValueError(
            "Expected the teacher's logits (`y_true`) and the student's "
            "(`y_pred`) to have the same shape, with the same number of "
            f"classes. Received shapes: {tuple(teacher_shape)} and "
            f"{tuple(student_shape)}"
        )
    if classes == 1:
        raise ValueError(
            "Expected at least two classes: the softmax of one logit is always "
            "1, and there is nothing to learn from it. For a binary classifier "
            "with one logit z, use two logits (0, z): "
            "`keras.ops.pad(z, [[0, 0], [1, 0]])`. Received: outputs of shape "
            f"{tuple(student_shape)}"
        )

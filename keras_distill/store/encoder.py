"""A teacher, and the form in which a store keeps its soft targets."""

import functools
import threading
import typing

import keras
from keras import ops

from keras_distill.data.elements import describe_inputs
from keras_distill.losses import SoftTargetCrossentropy
from keras_distill.objective import Objective
from keras_distill.step_check import StepCheck
from keras_distill.step_check import warn_of_probabilities
from keras_distill.store import shards
from keras_distill.store.records import RecordFormat
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.predictor import TargetPredictor
from keras_distill.teachers.teacher import Teacher
from keras_distill.top_k import TARGET_DTYPES
from keras_distill.top_k import top_k_targets
from keras_distill.validation import check_choice
from keras_distill.validation import check_flag
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperatures

# The default batch size of the teacher.
BATCH_SIZE = 256
_EXAMPLES_TO_INSPECT = 8
_TOP_K_TEMPERATURES = (1.0, 4.0)
# The logit of a probability of 0.
_LOG_ZERO = {"float16": -3e4, "float32": -1e9}


class Storage(typing.NamedTuple):
    """How a store keeps soft targets: arguments of `SoftTargetStore.create`."""

    top_k: int | None
    dtype: str
    temperatures: typing.Any
    from_logits: bool
    examples_per_shard: int | None
    teacher_id: str | None = None

    def check(self) -> "Storage":
        """Returns the same with integers that JSON can contain."""
        check_teacher_id(self.teacher_id)
        check_flag("from_logits", self.from_logits)
        check_choice("dtype", self.dtype, TARGET_DTYPES)
        integers: dict[str, typing.Any] = {
            name: check_integer(name, value, low=1)
            for name in ("top_k", "examples_per_shard")
            if (value := getattr(self, name)) is not None
        }
        return self._replace(**integers)


class TargetEncoder:
    """Computes a teacher's soft targets in the form that a store keeps."""

    def __init__(self, teacher, storage: Storage):
        self.teacher = Teacher(teacher)
        self._axis = -1
        if isinstance(teacher, Ensemble):
            if teacher.from_logits and not storage.from_logits:
                raise ValueError(
                    "An `Ensemble` returns logits. If its members return "
                    "probabilities, set it on the ensemble: "
                    "`Ensemble(models, from_logits=False)`. "
                    f"Received: from_logits={storage.from_logits!r}"
                )
            if teacher.axis is not None:
                self._axis = teacher.axis
        temperatures = _choose_temperatures(storage, self.teacher)
        self.storage = storage._replace(temperatures=temperatures)
        loss = SoftTargetCrossentropy(
            temperature=temperatures[0] if temperatures else 1.0,
            teacher_from_logits=storage.from_logits,
            axis=self._axis,
        )
        self._objective = Objective(loss)
        self._predictor = TargetPredictor(
            self.teacher, self._objective, finish=self._finish
        )
        self._format: RecordFormat | None = None
        # The threads of a Beam worker share an encoder.
        self._lock = threading.Lock()

    @functools.cached_property
    def _fingerprint(self):
        if self.storage.teacher_id is not None:
            return None
        # Only after the first prediction, which may build the teacher.
        fingerprint = self.teacher.fingerprint()
        if fingerprint is None:
            raise ValueError(
                "The teacher contains Python code, such as a function or a "
                "subclass, so a change of it cannot be detected. Pass a name "
                "for it, and a new name whenever it changes, for example "
                '`teacher_id="resnet-2"`. Received: teacher_id=None'
            )
        return fingerprint

    def describe(self, inputs, batch_size: int) -> dict:
        """Returns the first part of the manifest, for batches of a size."""
        format = self._find_format(inputs)
        return {
            "format_version": shards.FORMAT_VERSION,
            "teacher": self._fingerprint,
            "teacher_id": self.storage.teacher_id,
            "from_logits": self.storage.from_logits,
            **format._asdict(),
            "inputs": describe_inputs(inputs, batched=True),
            "views": 1,
            "seed": None,
            "workers": 1,
            "examples_per_shard": self.storage.examples_per_shard
            or shards.choose_shard_size(format.record.itemsize, batch_size),
        }

    def encode(self, inputs, fingerprints, position: int):
        """Returns the records of the batch that starts at `position`."""
        format = self._find_format(inputs)
        with self._lock:
            outputs = self._predictor.predict_on_batch(
                keras.tree.map_structure(ops.convert_to_tensor, inputs)
            )
        return format.encode(outputs, fingerprints, position)

    def _find_format(self, inputs):
        """Returns the `RecordFormat`, from the outputs for a few examples."""
        with self._lock:
            if self._format is None:
                self._format = self._inspect(inputs)
            return self._format

    def _inspect(self, inputs):
        check = StepCheck()

        def inspect_and_finish(target):
            raw = target.raw_outputs()
            if self.storage.from_logits and raw is not None:
                check.inspect("teacher", raw, self._axis)
            return self._finish(target)

        inspecting = TargetPredictor(
            self.teacher, self._objective, check, inspect_and_finish
        )
        few = keras.tree.map_structure(
            lambda array: ops.convert_to_tensor(array[:_EXAMPLES_TO_INSPECT]),
            inputs,
        )
        outputs = inspecting(few, training=False)
        warn_of_probabilities(
            "teacher",
            check.deviation("teacher"),
            {"teacher": "Pass `from_logits=False` to `create`"},
        )
        outputs = keras.tree.map_structure(ops.convert_to_numpy, outputs)
        return RecordFormat.from_outputs(outputs, self.storage)

    def _finish(self, target):
        """Returns the tensors to store of the `Targets` of an output."""
        top_k, dtype, temperatures, from_logits, *_ = self.storage
        logits = target.to_logits(from_logits, _LOG_ZERO[dtype]).all_logits()
        if top_k is None:
            return logits
        shape = tuple(logits.shape)
        if self._axis % len(shape) != len(shape) - 1:
            raise ValueError(
                "`top_k` needs the classes on the last axis of the outputs. "
                f"Received: an `Ensemble` with axis={self._axis}, and outputs "
                f"of shape {shape}"
            )
        check_integer("top_k", top_k, low=1, high=shape[-1] - 1)
        return top_k_targets(logits, top_k, temperatures, dtype)


def check_teacher_id(teacher_id) -> None:
    """Raises a `ValueError` unless it is a name or `None`."""
    if teacher_id is not None and (
        not isinstance(teacher_id, str) or not teacher_id
    ):
        raise ValueError(
            "Expected `teacher_id` to be a name for the teacher. "
            f"Received: teacher_id={teacher_id!r}"
        )


def _choose_temperatures(storage, teacher):
    """Returns the temperatures that a store serves, `None` for all."""
    temperatures = storage.temperatures
    if temperatures is not None:
        temperatures = check_temperatures(temperatures)
    if teacher.averages_at_a_temperature:
        if temperatures is None or len(temperatures) != 1:
            raise ValueError(
                "The mean of an ensemble is computed at the temperature of "
                "the distillation loss: pass it, for example "
                "`temperatures=(4.0,)`. Received: "
                f"temperatures={temperatures}"
            )
        return temperatures
    if storage.top_k is not None:
        return temperatures or _TOP_K_TEMPERATURES
    if temperatures is not None:
        raise ValueError(
            "The logits of one teacher are valid at every temperature. Pass "
            "`temperatures` only with `top_k` or for an ensemble. "
            f"Received: temperatures={temperatures}"
        )
    return None

"""A teacher, and the form in which a store keeps its soft targets."""

import functools

import keras
from keras import ops

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
from keras_distill.validation import check_integer
from keras_distill.validation import check_temperatures

# The default batch size of the teacher.
BATCH_SIZE = 256
_EXAMPLES_TO_INSPECT = 8
_TOP_K_TEMPERATURES = (1.0, 4.0)
# The logit of a probability of 0.
_LOG_ZERO = {"float16": -3e4, "float32": -1e9}


def check_storage(top_k, dtype, examples_per_shard):
    """Returns valid `top_k` and `examples_per_shard` for JSON."""
    if top_k is not None:
        top_k = check_integer("top_k", top_k, low=1)
    check_choice("dtype", dtype, TARGET_DTYPES)
    if examples_per_shard is not None:
        examples_per_shard = check_integer(
            "examples_per_shard", examples_per_shard, low=1
        )
    return top_k, examples_per_shard


class TargetEncoder:
    """Computes a teacher's soft targets in the form that a store keeps.

    The arguments are those of `SoftTargetStore.create`.
    """

    def __init__(self, teacher, top_k, dtype, temperatures, from_logits):
        self.teacher = Teacher(teacher)
        self._axis = -1
        if isinstance(teacher, Ensemble):
            _check_flag(from_logits, teacher)
            if teacher.axis is not None:
                self._axis = teacher.axis
        self._top_k = top_k
        self._dtype = dtype
        self._temperatures = _choose_temperatures(
            temperatures, self.teacher, top_k
        )
        self._from_logits = from_logits
        loss = SoftTargetCrossentropy(
            temperature=self._temperatures[0] if self._temperatures else 1.0,
            teacher_from_logits=from_logits,
            axis=self._axis,
        )
        self._objective = Objective(loss, None, 1.0, False, None)
        self._predictor = TargetPredictor(
            self.teacher, self._objective, finish=self._encode
        )

    @functools.cached_property
    def _fingerprint(self):
        # Only after the first prediction, which may build the teacher.
        return self.teacher.fingerprint()

    def inspect(self, inputs):
        """Returns the `RecordFormat`, from the outputs for a few examples."""
        check = StepCheck()

        def inspect_and_encode(target):
            raw = target.raw_outputs()
            if self._from_logits and raw is not None:
                check.inspect("teacher", raw, self._axis)
            return self._encode(target)

        inspecting = TargetPredictor(
            self.teacher, self._objective, check, inspect_and_encode
        )
        outputs = inspecting(
            keras.tree.map_structure(
                lambda each: ops.convert_to_tensor(each[:_EXAMPLES_TO_INSPECT]),
                inputs,
            ),
            training=False,
        )
        warn_of_probabilities(
            "teacher",
            check.deviation("teacher"),
            {"teacher": "Pass `from_logits=False` to `create`"},
        )
        return RecordFormat.of(
            keras.tree.map_structure(ops.convert_to_numpy, outputs),
            self._dtype,
            self._top_k,
            self._temperatures,
        )

    def predict(self, inputs):
        """Returns the soft targets of a batch as arrays."""
        return self._predictor.predict_on_batch(
            keras.tree.map_structure(ops.convert_to_tensor, inputs)
        )

    def describe(
        self,
        format,
        inputs,
        examples_per_shard,
        batch_size,
        views=1,
        seed=None,
        workers=1,
    ):
        """Returns the first part of the manifest, for JSON.

        Args:
            format: `RecordFormat`.
            inputs: Description of an example, from `describe_inputs`.
            examples_per_shard: Integer, or `None` for the default.
            batch_size: Size of the first batch.
            views: Number of views.
            seed: Seed of the augmentation, or `None`.
            workers: Number of processes that write.
        """
        return {
            "format_version": shards.FORMAT_VERSION,
            "teacher": self._fingerprint,
            "from_logits": self._from_logits,
            **format.get_config(),
            "inputs": inputs,
            "views": views,
            "seed": seed,
            "workers": workers,
            "examples_per_shard": examples_per_shard
            or shards.choose_shard_size(format.record.itemsize, batch_size),
        }

    def _encode(self, target):
        logits = target.to_logits(
            self._from_logits, _LOG_ZERO[self._dtype]
        ).all_logits()
        if self._top_k is None:
            return logits
        _check_last_axis(self._axis, logits.shape)
        check_integer("top_k", self._top_k, low=1, high=logits.shape[-1] - 1)
        return top_k_targets(
            logits, self._top_k, self._temperatures, self._dtype
        )


def _check_flag(from_logits, ensemble):
    """Refuses a flag that an ensemble ignores."""
    if not from_logits and ensemble.from_logits:
        raise ValueError(
            "An `Ensemble` returns logits. Tell the ensemble what its members "
            "return: `Ensemble(models, from_logits=False)`. Received: "
            f"from_logits={from_logits!r}"
        )


def _check_last_axis(axis, shape):
    """Refuses to keep the largest logits of another axis."""
    if axis % len(shape) != len(shape) - 1:
        raise ValueError(
            "`top_k` needs the classes on the last axis of the outputs, whose "
            f"shape is {tuple(shape)}. Received: an `Ensemble` with axis={axis}"
        )


def _choose_temperatures(temperatures, teacher, top_k):
    """Returns the temperatures that a store serves, `None` for all."""
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
    if top_k is not None:
        return temperatures or _TOP_K_TEMPERATURES
    if temperatures is not None:
        raise ValueError(
            "The logits of one teacher serve every temperature. Pass "
            "`temperatures` only with `top_k` or for an ensemble. "
            f"Received: temperatures={temperatures}"
        )
    return None

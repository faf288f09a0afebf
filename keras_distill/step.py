"""The training and test step: every override of Keras's trainer.

A step of Keras calls `call`, `compute_loss` and `compute_metrics`. Before it,
`WithSoftTargets` replaces the inputs of the batch. `call` then returns a
`Forward` instead of outputs, and `compute_loss` has both sides of each term.
"""

import functools
import typing
import warnings

import keras
from keras import ops

from keras_distill.backend import call_stateless_step
from keras_distill.backend import makes_variables_in_steps
from keras_distill.backend import run_stateless_step
from keras_distill.backend.keras_compat import TrainedModel
from keras_distill.backend.keras_compat import compute_hard_loss
from keras_distill.backend.keras_compat import copy_keras_logits
from keras_distill.backend.keras_compat import flatten_layers
from keras_distill.backend.keras_compat import get_compiled_results
from keras_distill.backend.keras_compat import has_default_build
from keras_distill.backend.keras_compat import in_symbolic_scope
from keras_distill.backend.keras_compat import infer_outputs
from keras_distill.backend.keras_compat import lacks_compiled_metrics
from keras_distill.backend.keras_compat import list_additional_losses
from keras_distill.backend.keras_compat import resolve_jit_compile
from keras_distill.backend.keras_compat import set_keras_mask
from keras_distill.data.checks import Unlabelled
from keras_distill.data.checks import check_not_packed
from keras_distill.data.checks import mask_unlabelled
from keras_distill.forward import Forward
from keras_distill.forward import ends_linearly
from keras_distill.forward import forward
from keras_distill.objective import Objective
from keras_distill.outputs import name_outputs
from keras_distill.step_check import NO_LABELS
from keras_distill.step_check import NO_LABELS_MESSAGE
from keras_distill.step_check import StepCheck
from keras_distill.targets import CheckedTargets
from keras_distill.targets import WithSoftTargets
from keras_distill.targets import flatten_like
from keras_distill.teachers.teacher import Supervision

# The entry of a step's logs with the report of its `StepCheck`.
_REPORT = "soft_target_report"


class DistillationStep(TrainedModel):
    """Base class of the `Distiller`: all overrides of Keras's trainer."""

    # Set by the `Distiller`.
    student: keras.Model
    alpha: float
    _objective: Objective
    _supervision: Supervision
    _check: StepCheck
    _ignores_labels: bool

    # Set by Keras: whether to use XLA, and the compiled steps.
    jit_compile: typing.Any
    train_function: typing.Any
    test_function: typing.Any

    def __setattr__(self, name, value):
        if name == "teacher":
            # Keras would track the model as a part of this one.
            object.__setattr__(self, name, value)
            return
        if name == "temperature":
            raise AttributeError(
                "The distillation loss has the temperature: "
                "`distiller.distillation_loss.temperature = 2.0`. "
                f"Received: temperature={value!r}"
            )
        if name == "student" and hasattr(self, "_objective"):
            raise AttributeError(
                "The student of a `Distiller` cannot be replaced. Create a "
                "new `Distiller(student=..., teacher=...)`. Received: "
                f"student={value!r}"
            )
        super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves every model that it finds under these names.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def output_names(self):
        """The names of the student's outputs, if it has names."""
        return getattr(self.student, "output_names", None)

    # ---- One step

    def train_step(self, *args):
        return self._run_step(super().train_step, self._add_targets, args)

    def test_step(self, *args):
        step = super().test_step
        return self._run_step(step, self._add_targets_to_test, args)

    def _run_step(self, step, prepare, args):
        """Takes a step of Keras, and adds the report to its logs."""
        if run_stateless_step is not None:
            result, logs, report = run_stateless_step(
                self, prepare, step, args, self._check.report
            )
            logs[_REPORT] = report
            return result
        data = prepare(*args)
        logs = step(data)
        if isinstance(data[0], WithSoftTargets):
            _, rows = data[0].soft_targets
            if rows is not None:
                logs[_REPORT] = ops.copy(self._check.report)
        return logs

    def _add_targets(self, data):
        """Returns the data of a training step with checked soft targets."""
        x, y, sample_weight = self._unpack(data)
        if y is None and self.loss is not None and self.alpha < 1:
            raise ValueError(NO_LABELS_MESSAGE)
        x = self._supervision.find_targets(x, self._objective, self._check)
        if not isinstance(x, WithSoftTargets):
            raise ValueError(
                "There are no soft targets: pass a `teacher` to the "
                "`Distiller` (or set `distiller.teacher`), or soft targets "
                "with the data: `fit(x, y, soft_targets=logits)`. Received: "
                "teacher=None"
            )
        if not isinstance(x.soft_targets, CheckedTargets):
            x = self._check.mask(x.inputs, x.soft_targets)
        return x, y, sample_weight

    def _add_targets_to_test(self, data):
        """Returns the data of a test step, with soft targets if needed."""
        x, y, sample_weight = self._unpack(data)
        objective = self._objective
        if objective.has_metrics or isinstance(x, WithSoftTargets):
            x = self._supervision.find_targets(x, objective, self._check)
            if not isinstance(x, WithSoftTargets):
                warnings.warn(
                    "`distillation_metrics` compare the student with its "
                    "teacher, and there is none: set `distiller.teacher`, or "
                    "pass soft targets with the data. The metrics are left "
                    "out.",
                    stacklevel=2,
                )
            elif not isinstance(x.soft_targets, CheckedTargets):
                x = WithSoftTargets(x.inputs, CheckedTargets(x.soft_targets))
        return x, y, sample_weight

    def call(self, inputs, training=None):
        if not isinstance(inputs, WithSoftTargets):
            return forward(self.student, inputs, training).outputs
        result = forward(self.student, inputs.inputs, training)
        if not isinstance(inputs.soft_targets, CheckedTargets):
            # As in `predict` on the data of a training.
            return result.outputs
        targets, rows = inputs.soft_targets
        targets = flatten_like(result.outputs, targets, "soft_targets")
        result = result._replace(targets=targets)
        return result if rows is None else _mask_gradient(result, rows)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns the loss that is minimized, and tracks its parts."""
        objective = self._objective
        losses = list_additional_losses(self)
        soft = hard = None
        values: list = []
        hard_weight = 1.0
        outputs = y_pred.outputs if isinstance(y_pred, Forward) else y_pred
        if (
            objective.terms is None
            and makes_variables_in_steps(self)
            and not in_symbolic_scope()
        ):
            # The outputs of the student were unknown until now.
            objective.build(name_outputs(outputs, self.output_names))
        if isinstance(y_pred, Forward):
            soft, values = objective.compute_soft_loss(
                y_pred, sample_weight, self._check
            )
            if not objective.has_hard_loss:
                losses.append(soft)
            else:
                alpha = ops.cast(objective.alpha_variable, soft.dtype)
                hard_weight = 1.0 - alpha
                if y is None and training:
                    self._check.flag(NO_LABELS, alpha < 1)
                    alpha = ops.where(alpha < 1, 0.0, alpha)
                losses.append(alpha * soft)
        if y is not None and objective.has_hard_loss:
            # In PyTorch, Keras multiplies them with a mask in place.
            weights = keras.tree.map_structure(
                lambda x: x if x is None else ops.copy(x), sample_weight
            )
            hard = compute_hard_loss(self, y, outputs, weights)
            losses.append(hard_weight * hard)
        if objective.terms is not None and losses:
            objective.tracker.update_state(
                soft, values, hard, _count_samples(x)
            )
        return functools.reduce(ops.add, losses) if losses else ops.zeros(())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates the metrics, and returns the logs that this batch has."""
        objective = self._objective
        outputs, absent = y_pred, set()
        if isinstance(y_pred, Forward):
            outputs = y_pred.outputs
            if objective.has_metrics:
                objective.update_metrics(y_pred, sample_weight, self._check)
        else:
            absent.update(objective.soft_target_log_names())
            if y is None or not objective.has_hard_loss:
                absent.add("loss")
        if y is None:
            logs = self.get_metrics_result()
            absent.update(get_compiled_results(self), ["hard_loss"])
        else:
            if self._ignores_labels:
                mask_unlabelled(y, outputs, self.loss, self.output_names)
            logs = super().compute_metrics(x, y, outputs, sample_weight)
        kept = {name: logs[name] for name in logs if name not in absent}
        if kept or in_symbolic_scope():
            return kept
        if not self.losses:
            raise ValueError(
                "There is nothing to evaluate: pass a `loss` or `metrics` to "
                "`compile` and labels to `evaluate`, or soft targets with the "
                "data. Received: labels "
                f"{'not ' if y is None else ''}given, loss={self.loss!r}"
            )
        return {"loss": logs["loss"]}

    def get_metrics_result(self):
        logs = {}
        for metric in super().metrics:
            # Keras builds the metrics of `compile` from the first labels.
            if getattr(metric, "built", True):
                result = metric.result()
                if not isinstance(result, dict):
                    result = {metric.name: result}
                logs.update(result)
        results = self._objective.results()
        repeated = logs.keys() & results.keys()
        if repeated:
            raise ValueError(
                "Expected `metrics` and `distillation_metrics` with different "
                "names: pass `name=...` to one of them. Received twice: "
                f"{sorted(repeated)}"
            )
        return {**logs, **results}

    # ---- Around a step

    @property
    def metrics(self):
        return [*super().metrics, *self._objective.list_metrics()]

    @property
    def metrics_variables(self):
        return [*super().metrics_variables, self._check.report]

    def reset_metrics(self):
        super().reset_metrics()
        self._check.reset()

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        self.train_function = functools.partial(
            self._run_compiled, self.train_function, True, []
        )

    def make_test_function(self, force=False):
        if self.test_function is not None and not force:
            return
        super().make_test_function(force)
        self.test_function = functools.partial(
            self._run_compiled, self.test_function, False, []
        )

    def _run_compiled(self, step, is_training, variables, *args):
        """Runs a compiled step, and reads the reports of former steps."""
        supervision = self._supervision
        if is_training and (supervision.cache.in_use or supervision.averages):
            supervision.check(self._objective)
        # Before the step: after it, an error would lose the result.
        self._check.read_if_free()
        if call_stateless_step is None:
            result = logs = step(*args)
        else:
            # Listed in the first step, because it takes long.
            if not variables:
                variables.extend(self.list_step_variables())
            result, logs = call_stateless_step(step, args, variables)
        if _REPORT in logs:
            self._check.keep(logs.pop(_REPORT))
        objective = self._objective
        if (
            objective.has_hard_loss
            and "hard_loss" not in logs
            and objective.alpha.value < 1
        ):
            # Without labels, this is not the loss of `compile`.
            logs.pop("loss", None)
        return result

    def list_step_variables(self):
        """Lists the variables that a step reads and Keras does not pass in."""
        own = {id(variable) for variable in self.variables}
        teacher = self._supervision.teacher
        variables = [] if teacher is None else teacher.variables()
        return [
            *self._objective.variables(),
            *(variable for variable in variables if id(variable) not in own),
        ]

    def train_on_batch(
        self,
        x,
        y=None,
        sample_weight=None,
        class_weight=None,
        return_dict=False,
    ):
        """Takes one training step, as `keras.Model.train_on_batch` does.

        Args:
            x: As in `keras.Model.train_on_batch`, or `WithSoftTargets`.
            y: As in `keras.Model.train_on_batch`.
            sample_weight: As in `keras.Model.train_on_batch`.
            class_weight: As in `keras.Model.train_on_batch`.
            return_dict: As in `keras.Model.train_on_batch`.

        Returns:
            The logs, as a list or dict.
        """
        self._supervision.cache.in_use = False
        if y is not None and lacks_compiled_metrics(self):
            self.train_function = None
        logs = super().train_on_batch(
            x, y, sample_weight, class_weight, return_dict
        )
        self._check.finish()
        return logs

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Evaluates one batch, as `keras.Model.test_on_batch` does.

        Args:
            x: As in `keras.Model.test_on_batch`, or `WithSoftTargets`.
            y: As in `keras.Model.test_on_batch`.
            sample_weight: As in `keras.Model.test_on_batch`.
            return_dict: As in `keras.Model.test_on_batch`.

        Returns:
            The logs, as a list or dict.
        """
        if y is not None and lacks_compiled_metrics(self):
            self.test_function = None
        logs = super().test_on_batch(x, y, sample_weight, return_dict)
        self._check.finish()
        return logs

    def _assert_is_compiled(self, name):
        if not self.compiled:
            raise ValueError(
                f"You must call `compile()` before using `{name}`."
            )

    # ---- Before the first step

    def build(self, input_shape):
        # A subclassed student without a `build` is built by its first call.
        student = self.student
        if not student.built and not has_default_build(student):
            student.build(input_shape)
        self.built = True

    def _configure_steps(self) -> bool:
        """Adapts steps to the present teacher. Returns whether they change."""
        teacher = self._supervision.teacher
        former = self.jit_compile, self._check.inspected
        if self._jit_is_auto:
            # Keras asks only the layers that it tracks.
            models = [teacher.model] if teacher and teacher.model else []
            self.jit_compile = resolve_jit_compile(self, models)
        self._check.warned.discard("teacher")
        self._check.inspected = set()
        if not ends_linearly(self.student):
            self._check.inspected.add("student")
        if teacher is None or not teacher.ends_linearly():
            self._check.inspected.add("teacher")
        # On JAX, the variables of the teacher are inputs of every step.
        uses_teacher = self._supervision.is_in_steps or call_stateless_step
        return bool(uses_teacher) or former != (
            self.jit_compile,
            self._check.inspected,
        )

    def is_ready_for_steps(self):
        teacher = self._supervision.teacher
        return (
            all(layer.built for layer in flatten_layers(self.student))
            and self._objective.built
            and (teacher is None or teacher.built)
        )

    def prepare_for_steps(self, data):
        x, y, sample_weight = self._unpack(data)
        inputs = x.inputs if isinstance(x, WithSoftTargets) else x
        teacher = self._supervision.teacher
        if teacher is not None:
            teacher.build(inputs)
        if not self._objective.built:
            outputs = infer_outputs(self.student, inputs)
            self._objective.build(name_outputs(outputs, self.output_names))
        return inputs, y, sample_weight

    def _unpack(self, data):
        """Returns inputs, labels and sample weights of a batch."""
        if isinstance(data, WithSoftTargets):
            return data, None, None
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(y, Unlabelled):
            return x, None, sample_weight.parts
        if isinstance(y, dict):
            check_not_packed(y, self._objective.output_names)
        return x, y, sample_weight


def _count_samples(x):
    """Returns the number of samples in a batch of inputs."""
    # An optional input may be `None`.
    return ops.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]


def _mask_gradient(result, rows):
    """Removes the gradient of the samples where `rows` is False."""

    def mask(x):
        if x is None:
            return None
        kept = ops.reshape(rows, (-1,) + (1,) * (len(x.shape) - 1))
        return ops.where(kept, x, ops.stop_gradient(x))

    masked = keras.tree.map_structure(mask, result.outputs)
    for output, copy, keras_mask in zip(
        keras.tree.flatten(result.outputs),
        keras.tree.flatten(masked),
        result.mask,
        strict=True,
    ):
        copy_keras_logits(output, copy, mask)
        if keras_mask is not None:
            set_keras_mask(copy, keras_mask)
    return result._replace(
        outputs=masked, logits=tuple(map(mask, result.logits))
    )

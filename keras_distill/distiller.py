import functools
import typing
import warnings

import keras
from keras import ops

from keras_distill.backend import MultiWorkerFit
from keras_distill.backend import after
from keras_distill.backend import keeping_variables
from keras_distill.backend import makes_variables_in_steps
from keras_distill.backend import run_step
from keras_distill.backend import unscale_loss
from keras_distill.backend.keras_internals import first_batch
from keras_distill.backend.keras_internals import flatten_layers
from keras_distill.backend.keras_internals import infer_outputs
from keras_distill.backend.keras_internals import model_supports_jit
from keras_distill.backend.keras_internals import train_validation_split
from keras_distill.callbacks import LogHyperparameters
from keras_distill.callbacks import ReadFailures
from keras_distill.callbacks import prepend_callback
from keras_distill.export import export_student
from keras_distill.hyperparameter import Hyperparameter
from keras_distill.logits import call_model
from keras_distill.losses.composition import Distillation
from keras_distill.metrics.composition import ComponentLosses
from keras_distill.metrics.composition import DistillationMetrics
from keras_distill.metrics.composition import MeanOfBatches
from keras_distill.metrics.composition import check_metrics
from keras_distill.metrics.composition import weights_of_outputs
from keras_distill.outputs import find_output_names
from keras_distill.outputs import flatten_like
from keras_distill.outputs import name_outputs
from keras_distill.soft_targets import is_compound
from keras_distill.teachers.teacher import Teacher
from keras_distill.transfer.checks import NEEDS_LABELS
from keras_distill.transfer.checks import NEEDS_TEACHER
from keras_distill.transfer.checks import BatchCheck
from keras_distill.transfer.labeller import Labeller
from keras_distill.transfer.labels import check_hard_loss
from keras_distill.transfer.labels import check_inputs
from keras_distill.transfer.labels import check_labels
from keras_distill.transfer.labels import check_validation
from keras_distill.transfer.labels import mask_unlabelled
from keras_distill.transfer.labels import require_classes
from keras_distill.transfer.labels import weigh_classes
from keras_distill.transfer.memory import Memory
from keras_distill.transfer.memory import should_label
from keras_distill.transfer.targets import check_keys
from keras_distill.transfer.targets import match_weights
from keras_distill.transfer.targets import pack_targets
from keras_distill.transfer.targets import unpack_targets
from keras_distill.transfer.targets import unpack_weights
from keras_distill.validation import check_number

_DEFAULT_ALPHA = 0.9


@keras.saving.register_keras_serializable(package="keras_distill")
class Distiller(MultiWorkerFit, keras.Model):
    """Trains a small student to give the outputs of a big teacher.

    The student learns from the teacher's soft targets on a transfer set and,
    where there are labels, from these too (Hinton, Vinyals and Dean, 2015,
    section 2). With `q_T` and `p_T` the student's and the teacher's softmax at
    temperature T, and labels `y`, it minimizes

        alpha * T^2 * CE(q_T, p_T) + (1 - alpha) * CE(q_1, y)

    A `Distiller` is a `keras.Model`, and whatever `fit` supports works: sample
    and class weights, masks, regularizers, several outputs, mixed precision,
    callbacks. The teacher is called with `training=False` and out of reach of
    the gradient: once for each example of arrays (see `cache` in `fit`), else
    once in each training step, as the student is.
    `predict`, `evaluate`, `save` and `export` are the student's alone: the
    teacher is neither called nor changed nor saved by them (but that
    `evaluate` calls it for `distillation_metrics`). A saved `Distiller`
    that is loaded again trains on from where it stopped as soon as it is given
    its teacher: `distiller.teacher = teacher`.

    The logs are `loss` (all that is minimized), `soft_loss` (the distillation
    losses, weighted and summed), `hard_loss` (`loss` of `compile`, before
    `1 - alpha`) and the metrics. Where `evaluate` has no soft
    targets, `loss` is the hard loss and what the student adds; it has them if
    the data brings them, or if `distillation_metrics` ask for them.

    A model that ends in a softmax (`keras.layers.Softmax`,
    `activation="softmax"`, `TemperatureSoftmax`) is distilled on the logits in
    front of it. For a softmax that can not be seen, such as one inside of a
    Python function, pass `from_logits=False` to the distillation loss.

    Soft targets that are NaN or infinite stop `fit` with an error that names
    the batch, before a weight changes. (Not with TensorFlow under XLA, which
    drops such checks: `jit_compile=True`, or `"auto"` on a GPU.)

    Example:

    ```python
    import keras
    import keras_distill

    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(
            temperature=4.0
        ),
        alpha=0.9,
        metrics=["accuracy"],
    )
    distiller.fit(x, y, epochs=2, validation_data=(x_test, y_test))
    distiller.student.export("student/")
    ```

    Data without labels, or with soft targets of its own (no teacher needed):

    ```python
    distiller.compile("adam")
    distiller.fit(unlabelled_x)

    distiller = keras_distill.Distiller(student=student)
    distiller.compile("adam")
    distiller.fit(x, {"soft_targets": teacher_logits})
    ```

    Args:
        student: The `keras.Model` to train.
        teacher: A `keras.Model`; a callable `inputs -> logits`; a list of
            these, which teach the mean of their probabilities at the
            temperature of the loss; or `None` where the soft targets come
            with the data. Its inputs are the student's, and its outputs have
            the structure and shapes of the student's; all else may differ.
            Defaults to `None`.
        name: Optional name of the model.

    Raises:
        TypeError: On positional arguments: `keras.distillation.Distiller` has
            them in the other order, and a silent swap trains the teacher.
        ValueError: If an argument is of another kind, or the outputs of
            student and teacher do not match.
    """

    # Set by Keras: the compiled steps.
    train_function: typing.Any
    test_function: typing.Any

    def __new__(cls, *args, **kwargs):
        if args:
            raise TypeError(
                "`Distiller` takes keyword arguments only: "
                "`Distiller(student=..., teacher=...)`. "
                f"Received: {len(args)} positional argument(s)"
            )
        return super().__new__(cls, **kwargs)

    def __init__(self, *, student, teacher=None, name=None):
        if not isinstance(student, keras.Model):
            raise ValueError(
                "Expected `student` to be a `keras.Model`. "
                f"Received: student={student!r}"
            )
        if _has_own_training(student):
            warnings.warn(
                "The student has a `train_step` or `compute_loss` of its own. "
                "A `Distiller` trains it with those of `keras.Model`.",
                stacklevel=2,
            )
        # The policy decides on loss scaling, the inputs are the student's to
        # cast.
        super().__init__(
            name=name, dtype=_find_dtype_policy(student), autocast=False
        )
        self.student = student
        self.teacher = teacher
        self._soft_loss_tracker = MeanOfBatches(name="soft_loss")
        self._hard_loss_tracker = MeanOfBatches(name="hard_loss")
        self._component_losses = ComponentLosses()
        self._distillation_metrics = DistillationMetrics(None)
        self._check = BatchCheck()
        self._memory = Memory()
        self._class_weight = None
        self._known_logits = None
        self._loss_is_whole = True
        self._is_ensemble_mean = False
        self._building = False
        self.built = student.built

    def __setattr__(self, name, value):
        # Keras tracks every model among the attributes, and the teacher is no
        # part of this one.
        if name == "teacher":
            object.__setattr__(self, name, value)
        elif name == "temperature":
            raise AttributeError(
                "The temperature is the distillation loss's: "
                "`distiller.distillation_loss.temperature = 2.0`."
            )
        elif name == "student" and hasattr(self, "_hard_loss_tracker"):
            raise AttributeError(
                "The student of a `Distiller` can not be exchanged. Make a "
                "new `Distiller(student=..., teacher=...)`."
            )
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves every model that it finds under these names.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def teacher(self):
        """The teacher; a list that was given is an `Ensemble`.

        May be set at any time.
        """
        return self._teacher and self._teacher.given

    @teacher.setter
    def teacher(self, teacher):
        wrapped = None if teacher is None else Teacher(teacher)
        if wrapped is not None:
            wrapped.check_against(self.student)
        self._teacher = wrapped
        if self.compiled and self._jit_is_auto:
            self.jit_compile = self._resolve_auto_jit_compile()
        # The compiled steps hold the former teacher.
        self.test_function = None
        if self.train_function is not None:
            self.make_train_function(force=True)

    @property
    def alpha(self):
        """The weight of the soft loss. Setting it needs no new `compile`."""
        self._assert_compile_called("alpha")
        return self._alpha.value

    @alpha.setter
    def alpha(self, value):
        self._assert_compile_called("alpha")
        self._alpha.assign(value)

    @property
    def distillation_loss(self):
        """The distillation losses: one, or a list or dict of them.

        `distiller.distillation_loss.temperature = 2.0` needs no new `compile`.
        """
        self._assert_compile_called("distillation_loss")
        return self._distillation.losses

    @property
    def output_names(self):
        """The names of the student's outputs, where it has names."""
        return getattr(self.student, "output_names", None)

    @property
    def metrics_variables(self):
        return [*super().metrics_variables, *self._check.variables]

    @property
    def metrics(self):
        return [
            *super().metrics,
            *self._component_losses.metrics,
            *self._distillation_metrics.metrics,
            *self._distillation_metrics.listed,
        ]

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *,
        distillation_loss="soft_target_crossentropy",
        distillation_loss_weights=None,
        alpha=_DEFAULT_ALPHA,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        distillation_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
    ):
        """Configures the distiller for training.

        Example:

        ```python
        distiller.compile(
            optimizer=keras.optimizers.Adam(1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            distillation_loss=[
                keras_distill.losses.SoftTargetCrossentropy(4.0),
                keras_distill.losses.LogitMatching(),
            ],
            distillation_loss_weights=[1.0, 0.1],
            alpha=0.9,
        )
        ```

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: The hard loss, between the labels and the student's outputs,
                as in `keras.Model.compile`. `None` (the default) means soft
                targets only, whatever labels the data has.
            distillation_loss: A `keras_distill.losses.DistillationLoss` or its
                name. A list is several losses on the one output. With several
                outputs, one loss applies to each of them; a list in their
                order or a dict with their names has a loss, a list of losses,
                or `None` for each. Defaults to `SoftTargetCrossentropy()` at
                its default temperature.
            distillation_loss_weights: Numbers in the structure of
                `distillation_loss`. Defaults to `None`: 1 for each.
            alpha: Float in `[0, 1]`: the weight of the soft loss; `1 - alpha`
                is that of the hard loss. With `loss=None` it is 1.
                Defaults to `0.9`.
            loss_weights: As in `keras.Model.compile`, of the hard losses of
                several outputs.
            metrics: As in `keras.Model.compile`.
            weighted_metrics: As in `keras.Model.compile`.
            distillation_metrics: Metrics between teacher and student: a
                `keras_distill.metrics.DistillationMetric` or its name, or a
                list of these. With several outputs, one of them applies to
                each; a list in their order or a dict with their names has an
                entry for each. In `fit` they cost no teacher; `evaluate`
                calls it once a batch, and then has `soft_loss` as well, and
                `loss` (`val_loss` in `fit`) is the whole objective.
                Defaults to `None`.
            run_eagerly: As in `keras.Model.compile`.
            steps_per_execution: As in `keras.Model.compile`.
            jit_compile: As in `keras.Model.compile`. `"auto"`, the default,
                is no XLA on a CPU with TensorFlow, and XLA on a GPU, where
                nothing then stops a step. On two cores of a CPU XLA took 1.1
                times the CPU seconds of none for a dense student, 2.3 for a
                convolutional one and 1.1 for one with dropout
                (`python benchmarks/compile_options.py`).
            auto_scale_loss: As in `keras.Model.compile`. A student in
                `mixed_float16` gets loss scaling.

        Raises:
            ValueError: If a distillation loss, a weight or `alpha` is not of
                the kind above, or does not fit the student's outputs.
        """
        check_hard_loss(loss, self.student)
        check_metrics(metrics, weighted_metrics)
        self._distillation = Distillation(
            distillation_loss, distillation_loss_weights
        )
        if loss is None and alpha == _DEFAULT_ALPHA:
            alpha = 1.0
        self._alpha = Hyperparameter(
            "alpha", alpha, _check_alpha_alone if loss is None else _check_alpha
        )
        self._check = BatchCheck()
        self._component_losses = ComponentLosses()
        self._distillation_metrics = DistillationMetrics(distillation_metrics)
        output_names = find_output_names(self.student)
        if output_names is not None:
            self._build_metrics(output_names, in_step=False)
        self.dtype_policy = _find_dtype_policy(self.student)
        self._auto_scale_loss = auto_scale_loss
        self._jit_is_auto = jit_compile == "auto" and not run_eagerly
        # Keras keeps those of a former `compile` where the new one has none.
        self.loss = self._compile_loss = self._compile_metrics = None
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
        cache="auto",
    ):
        """Distills the teacher into the student on a transfer set.

        Example:

        ```python
        distiller = keras_distill.Distiller(student=student, teacher=teacher)
        distiller.compile("adam", loss=None, metrics=["accuracy"])
        distiller.fit(x, y, batch_size=128, epochs=2)
        distiller.fit(unlabelled_x, epochs=2, validation_data=(x_test, y_test))
        distiller.fit(tf_dataset, epochs=2)
        ```

        Args:
            x: The inputs, as in `keras.Model.fit`: arrays, a
                `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator.
            y: The labels, as in `keras.Model.fit`; or `None` for an
                unlabelled transfer set; or a dict with `"soft_targets"` and,
                where there are any, `"labels"`, for which the teacher is not
                called. Batches of a dataset may have each of these as their
                `y`. Without a teacher and without a hard loss, `y` alone is
                taken for the soft targets. Where only a part has labels, the
                others are -1 and the loss has `ignore_class=-1`.
            batch_size: As in `keras.Model.fit`.
            epochs: As in `keras.Model.fit`.
            verbose: As in `keras.Model.fit`.
            callbacks: As in `keras.Model.fit`.
            validation_split: As in `keras.Model.fit`.
            validation_data: As in `keras.Model.fit`, evaluated as `evaluate`
                does.
            shuffle: As in `keras.Model.fit`.
            class_weight: As in `keras.Model.fit`. Weighs both losses.
            sample_weight: As in `keras.Model.fit`. Weighs both losses.
            initial_epoch: As in `keras.Model.fit`.
            steps_per_epoch: As in `keras.Model.fit`.
            validation_steps: As in `keras.Model.fit`.
            validation_batch_size: As in `keras.Model.fit`.
            validation_freq: As in `keras.Model.fit`.
            cache: Whether the teacher labels the transfer set once, before the
                first epoch, and the soft targets are kept in memory: every
                epoch then costs what training the student alone costs.
                `"auto"`, the default, does so where nothing else changes: for
                arrays, a teacher that is a Keras model (or an `Ensemble` of
                these) and shares no trainable weights with the student, soft
                targets of at most 1 GiB, which take 4 GiB at the peak, no
                `steps_per_epoch`, and no distribution on several devices
                (`tf.distribute`, `keras.distribution`). `True` does so for
                arrays in any case (in one process), and `False` never: the
                teacher is called in each training step, as it has to be if a
                callback changes its weights. It labels eight batches at a time,
                of at most 256 examples, or one larger batch of the training.
                Another `fit` on the same arrays
                with the same teacher labels nothing again, unless it is a
                function.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If the data has no soft targets and there is no
                teacher; if there are no labels and `alpha < 1`; if a label is
                no class of the student; or if soft targets are not finite.
        """
        self._assert_compile_called("fit")
        check_inputs(x, y)
        check_keys(y, self.output_names)
        if isinstance(validation_data, list):
            # As Keras does.
            validation_data = tuple(validation_data)
        if not self._distillation_metrics:
            check_validation(
                validation_data,
                validation_split,
                y,
                uses_labels=self.loss is not None
                or self._compile_metrics is not None
                # Then they are taken for soft targets.
                or self._teacher is None,
            )
        check_labels(y, self.loss, self.student)
        if isinstance(validation_data, tuple) and len(validation_data) > 1:
            check_labels(validation_data[1], self.loss, self.student)
            match_weights(*validation_data[1:])
        data = {
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "steps_per_epoch": steps_per_epoch,
        }
        self._check_temperatures()
        self._memory.release()
        labeller = self._make_labeller()
        if should_label(cache, data, labeller, self):
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = train_validation_split(
                    (x, y, sample_weight), validation_split=validation_split
                )
            soft_targets = self._memory.label(x, labeller, batch_size, verbose)
            y = pack_targets(y, soft_targets)
        sample_weight = match_weights(y, sample_weight)
        self._configure_step(class_weight)
        callbacks = prepend_callback(LogHyperparameters(), callbacks)
        callbacks = prepend_callback(ReadFailures(self._check), callbacks)
        with self._check.explaining(), keeping_variables(self):
            return super().fit(
                x=x,
                y=y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                sample_weight=sample_weight,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
            )

    def hyperparameters(self):
        """Returns the present `alpha` and temperature, as the logs have them.

        Returns:
            Dict of floats: `"alpha"`, where there is a hard loss, and
            `"temperature"`, where a distillation loss has one. Where several
            have, each has its own, under its name:
            `"soft_target_crossentropy_temperature"`.
        """
        self._assert_compile_called("hyperparameters")
        values = {} if self.loss is None else {"alpha": self.alpha}
        return {**values, **self._distillation.named_temperatures()}

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """Evaluates the student, as `keras.Model.evaluate` does.

        Args:
            x: As in `keras.Model.evaluate`.
            y: As in `keras.Model.evaluate`. The data may have soft targets of
                its own, as in `fit`.
            batch_size: As in `keras.Model.evaluate`.
            verbose: As in `keras.Model.evaluate`.
            sample_weight: As in `keras.Model.evaluate`.
            steps: As in `keras.Model.evaluate`.
            callbacks: As in `keras.Model.evaluate`.
            return_dict: As in `keras.Model.evaluate`.
            **kwargs: As in `keras.Model.evaluate`.

        Returns:
            The logs, as a list or dict.

        Raises:
            ValueError: If there are weights that have nothing to weigh.
        """
        self._assert_compile_called("evaluate")
        sample_weight = match_weights(y, sample_weight)
        if self._metrics_are_unbuilt():
            self.test_function = None
        self._check_temperatures()
        with self._check.explaining(), keeping_variables(self):
            return super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Evaluates one batch, as `keras.Model.test_on_batch` does.

        Args:
            x: As in `keras.Model.test_on_batch`.
            y: As in `evaluate`.
            sample_weight: As in `keras.Model.test_on_batch`.
            return_dict: As in `keras.Model.test_on_batch`.

        Returns:
            The logs, as a dict or list.
        """
        self._assert_compile_called("test_on_batch")
        if unpack_targets(y)[0] is not None and self._metrics_are_unbuilt():
            self.test_function = None
        with self._check.explaining():
            return super().test_on_batch(
                x, y, sample_weight=sample_weight, return_dict=return_dict
            )

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
            x: As in `keras.Model.train_on_batch`.
            y: As in `fit`.
            sample_weight: As in `keras.Model.train_on_batch`.
            class_weight: As in `keras.Model.train_on_batch`.
            return_dict: As in `keras.Model.train_on_batch`.

        Returns:
            The logs, as a dict or list.
        """
        self._assert_compile_called("train_on_batch")
        self._memory.release()
        self._configure_step(
            class_weight, may_have_labels=unpack_targets(y)[0] is not None
        )
        with self._check.explaining():
            return super().train_on_batch(
                x, y, sample_weight=sample_weight, return_dict=return_dict
            )

    def build(self, input_shape):
        # A subclassed student may have no `build`: its first call builds it.
        student = self.student
        if not student.built and not getattr(student.build, "_is_default", 0):
            student.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        return call_model(self.student, inputs, training=training)

    def train_step(self, *args):
        return run_step(
            self, self._prepare_training, super().train_step, args, self._check
        )

    def test_step(self, *args):
        return run_step(
            self, self._prepare_test, super().test_step, args, self._check
        )

    def _prepare_training(self, data):
        """Returns a batch with soft targets, as Keras's own step takes it."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._loss_is_whole = True
        self._is_ensemble_mean = False
        self._check.count_batch()
        check_keys(y, self.output_names)
        labels, soft_targets = self._find_targets(x, y)
        soft_targets = self._check.finite(soft_targets)
        if self._class_weight is not None:
            sample_weight = weigh_classes(
                labels, sample_weight, self._class_weight
            )
        # Not before the soft targets are checked: a batch normalisation in the
        # student would learn from inputs that are not finite.
        x = after(keras.tree.flatten(soft_targets), x)
        y = pack_targets(labels, soft_targets)
        return x, y, sample_weight

    def _prepare_test(self, data):
        """Returns a batch, with soft targets where they are asked for."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._is_ensemble_mean = False
        self._check.count_batch()
        check_keys(y, self.output_names)
        labels, soft_targets = unpack_targets(y)
        if self._y_is_soft_targets(y) and self._compile_metrics is None:
            labels, soft_targets = None, y
        elif soft_targets is None and self._distillation_metrics:
            soft_targets = self._ask_teacher(x)
            if soft_targets is None:
                warnings.warn(NEEDS_TEACHER, stacklevel=2)
        if soft_targets is not None:
            y = pack_targets(labels, soft_targets)
        # Without the labels the loss is not what `compile` says.
        self._loss_is_whole = labels is not None or self.loss is None
        return x, y, sample_weight

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras calls it before the first step, where a step is compiled that
        # can make no variables.
        parts = (
            *flatten_layers(self.student),
            self._compile_loss,
            self._compile_metrics,
            self._component_losses,
            self._teacher,
        )
        if all(part is None or part.built for part in parts):
            # A batch that is looked at may be gone.
            super()._symbolic_build(iterator=iterator, data_batch=data_batch)
            return
        if data_batch is None:
            data_batch = first_batch(iterator)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data_batch)
        check_keys(y, self.output_names)
        self._building = True
        try:
            super()._symbolic_build(data_batch=data_batch)
        finally:
            self._building = False
        if self._teacher is not None:
            self._teacher.build(x)
        if not self._component_losses.built:
            outputs = infer_outputs(self, x)
            self._build_metrics(
                name_outputs(outputs, self.output_names), in_step=False
            )

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        step = self.train_function
        self.train_function = functools.partial(self._run_training, step)

    def make_test_function(self, force=False):
        if self.test_function is not None and not force:
            return
        super().make_test_function(force)
        step = self.test_function
        self.test_function = functools.partial(self._run_test, step)

    def step_inputs(self):
        """Lists the variables that a step reads and that are not the model's.

        Those of the teacher, `alpha` and the temperatures.
        """
        own = {id(variable) for variable in self.variables}
        teacher = self._teacher.variables() if self._teacher else []
        return [
            self._alpha.variable,
            *self._distillation.variables(),
            *(variable for variable in teacher if id(variable) not in own),
        ]

    def reset_metrics(self):
        super().reset_metrics()
        self._check.reset()

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Computes what is minimized, and tracks its parts.

        Args:
            x: Inputs of the batch.
            y: Labels, or a dict of labels and soft targets.
            y_pred: The student's outputs, as `call` returned them.
            sample_weight: Weights of the samples, or `None`.
            training: Whether this is a training step.

        Returns:
            Scalar tensor:
            `alpha * soft_loss + (1 - alpha) * hard_loss + regularization`,
            or `hard_loss + regularization` where there are no soft targets.
        """
        labels, soft_targets = unpack_targets(y)
        hard_sample_weight, soft_sample_weight = unpack_weights(sample_weight)
        # An optional input may be `None`.
        given = (each for each in keras.tree.flatten(x) if each is not None)
        batch_size = ops.shape(next(given))[0]
        losses = [self._aggregate_additional_loss(loss) for loss in self.losses]
        hard_weight = 1.0
        if soft_targets is not None:
            alpha = ops.cast(self._alpha.variable, keras.config.floatx())
            hard_weight = 1.0 - alpha
            if training and labels is None and self._compile_loss is not None:
                alpha = self._check.only_soft(alpha)
            terms = self._build_metrics(name_outputs(y_pred, self.output_names))
            soft_loss = self._compute_soft_loss(
                terms, soft_targets, y_pred, soft_sample_weight, batch_size
            )
            self._soft_loss_tracker.update_state(
                unscale_loss(soft_loss), sample_weight=batch_size
            )
            losses.append(alpha * soft_loss)
            # Here, as JAX hands on the outputs and not what is known of them.
            self._distillation_metrics.update(
                self._note_temperatures(soft_targets),
                y_pred,
                soft_sample_weight,
                terms,
            )
        if labels is not None and self._compile_loss is not None:
            # Keras multiplies weights with a mask in place, in PyTorch.
            hard_sample_weight = keras.tree.map_structure(
                lambda x: x if x is None else ops.copy(x), hard_sample_weight
            )
            require_classes(labels, y_pred, self.loss, self.output_names)
            hard_loss = self._compile_loss(labels, y_pred, hard_sample_weight)
            self._hard_loss_tracker.update_state(
                unscale_loss(hard_loss), sample_weight=batch_size
            )
            losses.append(hard_weight * hard_loss)
        return sum(losses) if losses else ops.zeros(())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates the metrics and returns the logs of the batch.

        Args:
            x: Inputs of the batch.
            y: Labels, or a dict of labels and soft targets.
            y_pred: The student's outputs.
            sample_weight: Weights of the samples, or `None`.

        Returns:
            Dict of what was measured in this batch: an unlabelled one has no
            hard loss and no metrics, one without soft targets no soft loss.
        """
        labels, soft_targets = unpack_targets(y)
        weight_of_labels, _ = unpack_weights(sample_weight)
        absent = set() if self._loss_is_whole else {"loss"}
        if soft_targets is None:
            absent |= {
                "soft_loss",
                *(loss.name for loss in self._component_losses.metrics),
                *self._distillation_metrics.results(),
            }
            if self._compile_loss is None or labels is None:
                absent.add("loss")
        if labels is None:
            logs = self.get_metrics_result()
            absent.add("hard_loss")
            if (
                self._compile_metrics is not None
                and self._compile_metrics.built
            ):
                absent |= set(self._compile_metrics.result())
        else:
            mask_unlabelled(labels, y_pred, self.loss, self.output_names)
            logs = super().compute_metrics(x, labels, y_pred, weight_of_labels)
        kept = {name: logs[name] for name in logs if name not in absent}
        if kept or self._building:
            return kept
        if not self.losses:
            raise ValueError(
                "There is nothing to evaluate: pass a `loss` or `metrics` to "
                "`compile` and labels to `evaluate`, or data with "
                '`y={"soft_targets": logits}`. Received: labels '
                f"{'not ' if labels is None else ''}given, "
                f"loss={self.loss!r}"
            )
        return {"loss": logs["loss"]}

    def get_metrics_result(self):
        logs = {}
        for metric in [*super().metrics, *self._component_losses.metrics]:
            # Keras builds the compiled metrics from the first labels it sees.
            if getattr(metric, "built", True):
                result = metric.result()
                logs.update(
                    result
                    if isinstance(result, dict)
                    else {metric.name: result}
                )
        if self._compile_loss is None:
            del logs["hard_loss"]
        return {**logs, **self._distillation_metrics.results()}

    def export(self, filepath, format="tf_saved_model", **kwargs):
        """Exports the student, as `distiller.student.export` does.

        Example:

        ```python
        distiller.export("student/")
        distiller.export("student.tflite", format="litert")
        distiller.export("student.onnx", format="onnx")
        ```

        Args:
            filepath: Where to write it.
            format: As in `keras.Model.export`. `"onnx"` needs the packages
                `onnx` and `tf2onnx`. Defaults to `"tf_saved_model"`.
            **kwargs: More arguments of `keras.Model.export`.

        Raises:
            ImportError: If the format needs a package that is not installed.
            ValueError: If the format is unknown, or the student is not built.
        """
        export_student(self.student, filepath, format, **kwargs)

    def get_config(self):
        return {
            "name": self.name,
            "student": keras.saving.serialize_keras_object(self.student),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        student = keras.saving.deserialize_keras_object(
            config["student"], custom_objects=custom_objects
        )
        return cls(student=student, name=config["name"])

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config.update(
                **keras.saving.serialize_keras_object(
                    {
                        "distillation_loss": self._distillation.losses,
                        "distillation_loss_weights": (
                            self._distillation.weights
                        ),
                        "distillation_metrics": (
                            self._distillation_metrics.given
                        ),
                    }
                ),
                alpha=self.alpha,
                auto_scale_loss=self._auto_scale_loss,
            )
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _resolve_auto_jit_compile(self):
        # Keras looks at the layers that it tracks: at the student's.
        models = [] if self._teacher is None else self._teacher.models()
        return super()._resolve_auto_jit_compile() and all(
            map(model_supports_jit, models)
        )

    def _find_targets(self, x, y):
        """Returns labels and soft targets: those in `y`, or the teacher's."""
        labels, soft_targets = unpack_targets(y)
        if soft_targets is not None:
            if self._memory.in_use:
                self._memory.mark(soft_targets)
                self._is_ensemble_mean = (
                    self._teacher is not None
                    and self._teacher.averages_at_a_temperature
                )
        elif self._teacher is not None:
            soft_targets = self._ask_teacher(x)
        elif self._y_is_soft_targets(y):
            labels, soft_targets = None, y
        if soft_targets is None:
            raise ValueError(
                "There are no soft targets: pass a `teacher` to the "
                "`Distiller` (or set `distiller.teacher`), or data with "
                '`y={"labels": labels, "soft_targets": logits}`. Received: '
                "teacher=None"
            )
        if labels is None and self.loss is not None and self.alpha < 1:
            raise ValueError(NEEDS_LABELS)
        return labels, soft_targets

    def _ask_teacher(self, x):
        """Returns the teacher's soft targets of a batch, if there is one."""
        if self._teacher is None:
            return None
        self._is_ensemble_mean = self._teacher.averages_at_a_temperature
        return self._teacher(
            x,
            self._distillation,
            self.output_names,
            look=functools.partial(self._check.look, "teacher"),
        )

    def _note_temperatures(self, soft_targets):
        """Lets the metrics see where a mean holds that depends on it."""
        if self._distillation_metrics and self._is_ensemble_mean:
            return self._distillation.with_temperatures(
                soft_targets, self.output_names
            )
        return soft_targets

    def _build_metrics(self, output_names, in_step=True):
        """Makes the metrics of each output, once.

        Args:
            output_names: One name for each output, in flat order.
            in_step: Whether this is inside of a step.

        Returns:
            List of the terms of the distillation losses.
        """
        terms = self._distillation.terms(output_names)
        if makes_variables_in_steps(self) or not in_step:
            self._component_losses.build(terms, output_names)
            self._distillation_metrics.build(output_names)
        return terms

    def _y_is_soft_targets(self, y):
        """Whether a bare `y` can be nothing but soft targets."""
        return (
            y is not None
            and unpack_targets(y)[1] is None
            and self._teacher is None
            and self.loss is None
        )

    def _make_labeller(self):
        """Returns the `Labeller` of arrays, or `None` without a teacher."""
        if self._teacher is None:
            return None
        return Labeller(
            self._teacher,
            self._distillation,
            self.output_names,
            self._check,
        )

    def _configure_step(self, class_weight, may_have_labels=True):
        """Sets what a compiled training step depends on besides its batch."""
        traits = (class_weight, self._memory.known_logits)
        if traits != (self._class_weight, self._known_logits) or (
            may_have_labels and self._metrics_are_unbuilt()
        ):
            self._class_weight, self._known_logits = traits
            self.train_function = None

    def _check_temperatures(self):
        """Refuses metrics at which the mean of an ensemble does not hold."""
        if self._teacher is None or not self._teacher.averages_at_a_temperature:
            return
        present = self._distillation.present_temperatures() or (1.0,)
        for (
            name,
            temperature,
        ) in self._distillation_metrics.temperatures.items():
            if temperature not in present:
                raise ValueError(
                    "The mean of an ensemble is taken at the temperature of "
                    "the distillation loss, and holds at no other: pass "
                    f"`temperature={present[0]:g}` to the metric {name!r}. "
                    f"Received: temperature={temperature:g}"
                )

    def _metrics_are_unbuilt(self):
        """Whether a compiled step may lack the metrics of `compile`.

        Keras builds them from the first labels, and a step that was compiled
        without labels can make no variables later.
        """
        metrics = self._compile_metrics
        return metrics is not None and not metrics.built

    def _run_training(self, step, *args):
        """Runs a compiled training step, if the memory still serves it."""
        self._memory.check(
            self._teacher, self._distillation.present_temperatures()
        )
        if self._teacher and self._teacher.averages_at_a_temperature:
            # A callback may have changed one of several, which a compiled step
            # does not see.
            names = find_output_names(self.student)
            if names is not None:
                self._distillation.temperatures(names)
        return self._check.run(self, step, args)

    def _run_test(self, step, *args):
        """Runs a compiled test step."""
        return self._check.run(self, step, args)

    def _compute_soft_loss(
        self, terms, soft_targets, y_pred, sample_weight, batch_size
    ):
        """Returns the weighted sum of the distillation losses."""
        student_outputs = keras.tree.flatten(y_pred)
        teacher_outputs = flatten_like(y_pred, soft_targets=soft_targets)
        weights = weights_of_outputs(y_pred, sample_weight)
        values = []
        for output, loss, _ in terms:
            teacher_output = teacher_outputs[output]
            student_output = student_outputs[output]
            if not is_compound(teacher_output):
                self._check.look(
                    "teacher",
                    teacher_output,
                    loss.teacher_from_logits,
                    loss.axis,
                )
            self._check.look(
                "student", student_output, loss.from_logits, loss.axis
            )
            value = loss(teacher_output, student_output, weights[output])
            values.append(ops.cast(value, keras.config.floatx()))
        self._component_losses.update(map(unscale_loss, values), batch_size)
        return sum(
            value if term.weight == 1 else term.weight * value
            for term, value in zip(terms, values, strict=True)
        )


def _find_dtype_policy(student):
    """Returns the policy on which Keras decides about loss scaling.

    One layer in float16 is enough to need it, whatever the policy of the model
    as a whole is called.
    """
    policies = [layer.dtype_policy for layer in flatten_layers(student)]
    for policy in policies:
        if policy.name == "mixed_float16":
            return policy
    return student.dtype_policy


def _has_own_training(student):
    return any(
        getattr(type(student), name) is not getattr(keras.Model, name)
        for name in ("train_step", "compute_loss")
    )


def _check_alpha(argument, value):
    return check_number(argument, value, low=0, high=1)


def _check_alpha_alone(argument, value):
    alpha = _check_alpha(argument, value)
    if alpha != 1:
        raise ValueError(
            "Without a hard loss (`loss=None`) the soft loss is all there is, "
            "and `alpha` has to be 1. "
            f"Received: {argument}={value!r}, loss=None"
        )
    return alpha

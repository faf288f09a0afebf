import os

import keras

from keras_distill import compile_checks
from keras_distill.backend import keras_compat
from keras_distill.callbacks import EndOfEpoch
from keras_distill.callbacks import prepend_callback
from keras_distill.data import checks
from keras_distill.data.cache import should_cache
from keras_distill.objective import Objective
from keras_distill.outputs import find_output_names
from keras_distill.step import DistillationStep
from keras_distill.step_check import StepCheck
from keras_distill.teachers.teacher import Supervision
from keras_distill.validation import check_given


@keras.saving.register_keras_serializable(package="keras_distill")
class Distiller(DistillationStep):
    """Trains a small student to match a large teacher.

    The student learns from the teacher's soft targets on a transfer set and, if
    there are labels, from the labels as well (Hinton, Vinyals and Dean, 2015,
    section 2). With `q_T` and `p_T` the student's and the teacher's softmax at
    temperature T, and labels `y`, it minimizes

        alpha * T^2 * CE(q_T, p_T) + (1 - alpha) * CE(q_1, y)

    A `Distiller` is a `keras.Model`. Everything that `fit` supports works:
    sample and class weights, masks, regularizers, several outputs, mixed
    precision, callbacks. The teacher runs in inference mode and without a
    gradient: for arrays once, before the first epoch (see `cache` in `fit`);
    for other data once in each training step.

    `predict`, `save` and `export` use only the student, and so does `evaluate`
    without `distillation_metrics`. The teacher is never changed or saved. After
    loading a saved `Distiller`, set `distiller.teacher = teacher` to continue.

    The logs contain `loss` (everything that is minimized), `soft_loss` (the
    weighted sum of the distillation losses), `hard_loss` (the `loss` of
    `compile`, before `1 - alpha`), each distillation loss if there are several,
    the metrics, and at the end of an epoch `alpha` and `temperature`. In
    `evaluate`, `loss` is the hard loss and the regularization, unless the data
    contains soft targets or `distillation_metrics` need them.

    A model that ends in a softmax (`keras.layers.Softmax`,
    `activation="softmax"`, `TemperatureSoftmax`) is distilled on the logits
    before the softmax. If the softmax cannot be recognized, for example inside
    of a Python function, pass `from_logits=False` to the distillation loss.

    Soft targets that are NaN or infinite never reach a weight. Their samples
    get no weight, and `fit` raises an error that names the first batch with
    such a sample: after this batch on a CPU, and at the latest at the end of
    the epoch.

    Example:

    ```python
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
        alpha=0.9,
        metrics=["accuracy"],
    )
    distiller.fit(x, y, epochs=2, validation_data=(x_test, y_test))
    distiller.student.export("student/")
    ```

    Args:
        student: The `keras.Model` to train.
        teacher: A `keras.Model`; a callable `inputs -> logits`; a list of
            models or callables, to learn from the mean of their probabilities
            at the temperature of the loss; or `None` (the default) if the data
            contains soft targets. It gets the student's inputs, and its outputs
            have the structure and shapes of the student's outputs.
        name: Optional name of the model.

    Raises:
        TypeError: On positional arguments, which may swap the models, and on
            unknown arguments.
        ValueError: If `student` is not a `keras.Model`, `teacher` is none of
            the above, or the outputs of student and teacher do not match.
    """

    def __init__(self, *args, student=None, teacher=None, name=None, **kwargs):
        compile_checks.check_unknown_arguments(args, kwargs)
        compile_checks.check_student(student)
        # The policy decides about loss scaling. The student casts its inputs.
        super().__init__(
            name=name,
            dtype=keras_compat.find_dtype_policy(student),
            autocast=False,
        )
        self.student = student
        self._supervision = Supervision(student, teacher)
        self._objective = Objective("soft_target_crossentropy")
        self._check = StepCheck()
        self.built = student.built

    @property
    def teacher(self):
        """The teacher. You can replace it at any time."""
        teacher = self._supervision.teacher
        return teacher and teacher.original

    @teacher.setter
    def teacher(self, teacher):
        self._supervision.replace_teacher(teacher)
        if self.compiled and not self._configure_steps():
            # TensorFlow keeps the memory of every step that it compiled.
            return
        self._supervision.is_in_steps = False
        self.test_function = None
        if self.train_function is not None:
            self.make_train_function(force=True)

    @property
    def alpha(self):
        """The weight of the soft loss. Setting it needs no new `compile`."""
        self._assert_is_compiled("alpha")
        return self._objective.alpha.value

    @alpha.setter
    def alpha(self, value):
        self._assert_is_compiled("alpha")
        self._objective.alpha.assign(value)

    @property
    def distillation_loss(self):
        """The distillation losses. You can set a `temperature` at any time."""
        self._assert_is_compiled("distillation_loss")
        return self._objective.losses

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *,
        distillation_loss="soft_target_crossentropy",
        distillation_loss_weights=None,
        alpha=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        distillation_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        **kwargs,
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
                targets only. Labels in the data are then ignored.
            distillation_loss: A `keras_distill.losses.DistillationLoss` or its
                name. A list means several losses on the one output. With
                several outputs, one loss applies to each output; a list in
                their order or a dict with their names has a loss, a list of
                losses, or `None` for each output. Defaults to
                `SoftTargetCrossentropy()` at its default temperature.
            distillation_loss_weights: Numbers in the structure of
                `distillation_loss`. Defaults to `None`: 1 for each loss.
            alpha: Float in `[0, 1]`: the weight of the soft loss. The weight of
                the hard loss is `1 - alpha`. Defaults to `None`, which means
                0.9, or 1 with `loss=None`.
            loss_weights: As in `keras.Model.compile`, for the hard losses of
                several outputs.
            metrics: As in `keras.Model.compile`.
            weighted_metrics: As in `keras.Model.compile`.
            distillation_metrics: Metrics between teacher and student: a
                `keras_distill.metrics.DistillationMetric` or its name, or a
                list of these. For several outputs, as in `distillation_loss`.
                In `fit` the metrics need no extra call of the teacher.
                `evaluate` calls the teacher once per batch. Its logs then
                contain `soft_loss`, and `loss` (`val_loss` in `fit`) is the
                whole objective. Defaults to `None`.
            run_eagerly: As in `keras.Model.compile`.
            steps_per_execution: As in `keras.Model.compile`.
            jit_compile: As in `keras.Model.compile`. With TensorFlow, `"auto"`
                (the default) disables XLA on CPU and enables it on GPU, if the
                layers of student and teacher support it.
            auto_scale_loss: As in `keras.Model.compile`. A student in
                `mixed_float16` gets loss scaling.
            **kwargs: Unknown arguments raise an error that names the right one.

        Raises:
            TypeError: If an argument is unknown.
            ValueError: If an argument does not fit the student's outputs.
        """
        compile_checks.check_unknown_arguments((), kwargs)
        check_given(optimizer=optimizer)
        compile_checks.check_no_distillation_metrics(metrics, weighted_metrics)
        compile_checks.check_hard_loss(
            loss, [metrics, weighted_metrics], self.student
        )
        optimizer = keras.optimizers.get(optimizer)
        objective = Objective(
            distillation_loss,
            weights=distillation_loss_weights,
            alpha=alpha,
            has_hard_loss=loss is not None,
            metrics=distillation_metrics,
        )
        objective.build(find_output_names(self.student))
        self._objective = objective
        self._check = StepCheck()
        self._ignores_labels = checks.ignores_labels(loss)
        self.dtype_policy = keras_compat.find_dtype_policy(self.student)
        self._auto_scale_loss = auto_scale_loss
        self._jit_is_auto = jit_compile == "auto" and not run_eagerly
        # Keras keeps the loss and metrics of a former `compile`.
        keras_compat.clear_compile(self)
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
        self._configure_steps()

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
        soft_targets=None,
    ):
        """Distills the teacher into the student on a transfer set.

        Example:

        ```python
        distiller.compile("adam", loss=None, metrics=["accuracy"])
        distiller.fit(unlabelled_x, epochs=2, validation_data=(x_test, y_test))
        distiller.fit(tf_dataset, epochs=2)
        distiller.fit(x, soft_targets=teacher_logits)
        ```

        Args:
            x: The inputs, as in `keras.Model.fit`: arrays, a
                `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator. The
                elements of a dataset can contain soft targets:
                `(keras_distill.WithSoftTargets(x, logits), y)`.
            y: The labels, as in `keras.Model.fit`, or `None` for an unlabelled
                transfer set. If only some examples have labels, the rest gets
                the label -1 and the loss has `ignore_class=-1`.
            batch_size: As in `keras.Model.fit`.
            epochs: As in `keras.Model.fit`.
            verbose: As in `keras.Model.fit`.
            callbacks: As in `keras.Model.fit`.
            validation_split: As in `keras.Model.fit`.
            validation_data: As in `keras.Model.fit`.
            shuffle: As in `keras.Model.fit`.
            class_weight: As in `keras.Model.fit`. It weighs both losses.
            sample_weight: As in `keras.Model.fit`. It weighs both losses.
            initial_epoch: As in `keras.Model.fit`.
            steps_per_epoch: As in `keras.Model.fit`.
            validation_steps: As in `keras.Model.fit`.
            validation_batch_size: As in `keras.Model.fit`.
            validation_freq: As in `keras.Model.fit`.
            cache: Whether the teacher runs once, before the first epoch, and
                the soft targets stay in memory. Every epoch then costs little
                more than training the student alone. `"auto"` (the default)
                does so if all of these hold: `x` is arrays; the teacher is a
                Keras model, or an `Ensemble` of Keras models; it repeats its
                outputs; it shares no trainable weights with the student; the
                soft targets need at most 1 GiB (4 GiB at the peak);
                `steps_per_epoch` is `None`; one device trains. `True` always
                caches arrays (in one process). `False` calls the teacher in
                each training step. Use it if a callback changes the teacher's
                weights. Another `fit` with the same arrays and the same Keras
                model as the teacher uses the cache again, unless the teacher
                contains Python code: a function, a `Lambda` layer or a
                subclass of a Keras class.
            soft_targets: Soft targets for arrays `x`: the teacher's logits in
                the structure of the student's outputs, `TopKTargets` or
                `EnsembleTargets`. The teacher is then not called. Defaults to
                `None`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: Before `compile`, or if soft targets or labels are
                missing, a label is not a class of the student, soft targets are
                not finite, or `cache` cannot be used.
        """
        self._assert_is_compiled("fit")
        checks.check_fit(batch_size, class_weight, sample_weight, self.student)
        x = checks.parse_soft_targets(x, y, soft_targets, self._objective)
        validation_data = checks.normalize_validation(validation_data)
        checks.check_validation(
            validation_data,
            validation_split,
            x,
            y,
            self._objective,
            uses_labels=self.loss is not None
            or keras_compat.has_compiled_metrics(self),
        )
        checks.check_labels(y, self.loss, self.student)
        if isinstance(validation_data, tuple) and len(validation_data) > 1:
            checks.check_labels(validation_data[1], self.loss, self.student)
        self._supervision.check_metric_temperatures(self._objective)
        self._supervision.cache.in_use = False
        predictor = self._supervision.make_predictor(
            self._objective, self._check
        )
        y, sample_weight = checks.keep_weights(x, y, sample_weight)
        if should_cache(
            cache, (x, y, sample_weight), steps_per_epoch, self, predictor
        ):
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = (
                    keras_compat.train_validation_split(
                        (x, y, sample_weight), validation_split=validation_split
                    )
                )
            x = self._supervision.cache.join(
                x, predictor, batch_size, verbose, is_required=cache is True
            )
        if keras_compat.lacks_compiled_metrics(self):
            self.train_function = None
        callbacks = prepend_callback(
            EndOfEpoch(self._check, self._objective), callbacks
        )
        with self._check.cleaning_up(self):
            # The order is that of `keras.Model.fit`.
            return super().fit(
                *(x, y, batch_size, epochs, verbose, callbacks),
                *(validation_split, validation_data, shuffle, class_weight),
                *(sample_weight, initial_epoch, steps_per_epoch),
                *(validation_steps, validation_batch_size, validation_freq),
            )

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
        soft_targets=None,
        **kwargs,
    ):
        """Evaluates the student, as `keras.Model.evaluate` does.

        Args:
            x: As in `keras.Model.evaluate`, or with soft targets as in `fit`.
            y: As in `keras.Model.evaluate`.
            batch_size: As in `keras.Model.evaluate`.
            verbose: As in `keras.Model.evaluate`.
            sample_weight: As in `keras.Model.evaluate`.
            steps: As in `keras.Model.evaluate`.
            callbacks: As in `keras.Model.evaluate`.
            return_dict: As in `keras.Model.evaluate`.
            soft_targets: As in `fit`.
            **kwargs: As in `keras.Model.evaluate`.

        Returns:
            The logs, as a list or dict.

        Raises:
            ValueError: As in `fit`.
        """
        self._assert_is_compiled("evaluate")
        # A validation begins before the end of an epoch.
        self._check.finish()
        checks.check_fit(batch_size, None, sample_weight, self.student)
        x = checks.parse_soft_targets(x, y, soft_targets, self._objective)
        checks.check_labels(y, self.loss, self.student)
        y, sample_weight = checks.keep_weights(x, y, sample_weight)
        self._supervision.check_metric_temperatures(self._objective)
        if keras_compat.lacks_compiled_metrics(self):
            self.test_function = None
        with self._check.cleaning_up(self):
            logs = super().evaluate(
                *(x, y, batch_size, verbose, sample_weight),
                *(steps, callbacks, return_dict),
                **kwargs,
            )
        self._check.finish()
        return logs

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
            format: As in `keras.Model.export`. Defaults to
                `"tf_saved_model"`.
            **kwargs: More arguments of `keras.Model.export`.

        Raises:
            ImportError: If the format needs a package that is not installed.
            ValueError: If the format is unknown, or the student is not built.
        """
        if not self.student.built:
            raise ValueError(
                "The student is not built and cannot be exported. Call `fit` "
                "first, or call the student on a batch of inputs. "
                f"Received: student={self.student!r}"
            )
        # For LiteRT, Keras 3.14 accepts only a string.
        self.student.export(os.fspath(filepath), format=format, **kwargs)

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
                        "distillation_loss": self._objective.losses,
                        "distillation_loss_weights": self._objective.weights,
                        "distillation_metrics": self._objective.given_metrics,
                    }
                ),
                alpha=self.alpha,
                auto_scale_loss=self._auto_scale_loss,
            )
            if self._jit_is_auto:
                # Keras has its value on this machine.
                config["jit_compile"] = "auto"
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

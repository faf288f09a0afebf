import keras


class LogHyperparameters(keras.callbacks.Callback):
    """Adds `alpha` and `temperature` to the logs at the end of an epoch.

    `History`, `CSVLogger` and `TensorBoard` find them in the logs, like the
    learning rate of a `LearningRateScheduler`.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self.model.hyperparameters())


class ReadReport(keras.callbacks.Callback):
    """Raises an error at the end of an epoch with non-finite soft targets.

    It comes first, before other callbacks save the weights of the epoch.

    Args:
        check: `StepCheck`.
    """

    def __init__(self, check):
        super().__init__()
        self._check = check

    def on_epoch_end(self, epoch, logs=None):
        self._check.finish()


def prepend_callback(callback, callbacks):
    """Returns the callbacks of `fit` with one more, which comes first.

    Args:
        callback: `keras.callbacks.Callback`.
        callbacks: The argument of `fit`: a callback, a list of them, a
            `keras.callbacks.CallbackList`, or `None`.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # It is used once more if `fit` is called again.
        others = [
            each
            for each in callbacks.callbacks
            if not isinstance(each, type(callback))
        ]
        callback.set_model(callbacks.model)
        callbacks.callbacks[:] = [callback, *others]
        return callbacks
    return [callback, *keras.tree.flatten(callbacks or [])]

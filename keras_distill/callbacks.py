import keras


class LogHyperparameters(keras.callbacks.Callback):
    """Adds `alpha` and `temperature` to the logs at the end of an epoch.

    `History`, `CSVLogger` and `TensorBoard` read them from the logs, like the
    learning rate of a `LearningRateScheduler`.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self.model.hyperparameters())


class ReadReport(keras.callbacks.Callback):
    """Raises an error at the end of an epoch with non-finite soft targets.

    It has to run before the callbacks that save the weights of the epoch.
    """

    def __init__(self, check):
        super().__init__()
        self._check = check

    def on_epoch_end(self, epoch, logs=None):
        self._check.finish()


def prepend_callbacks(own: list, callbacks):
    """Returns the argument `callbacks` of `fit` with `own` in front."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # It may contain the own callbacks of an earlier `fit`.
        types = tuple(map(type, own))
        kept = [
            callback
            for callback in callbacks.callbacks
            if not isinstance(callback, types)
        ]
        for callback in own:
            callback.set_model(callbacks.model)
        callbacks.callbacks[:] = [*own, *kept]
        return callbacks
    return [*own, *keras.tree.flatten(callbacks or [])]

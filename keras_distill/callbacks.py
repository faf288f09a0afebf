import keras


class LogHyperparameters(keras.callbacks.Callback):
    """Puts what a callback may change of a `Distiller` into its logs.

    At the end of an epoch: `alpha`, where there is a hard loss, and
    `temperature`. `History`, `CSVLogger` and `TensorBoard` find them there,
    as they do the learning rate of a `LearningRateScheduler`.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self.model.hyperparameters())


class ReadFailures(keras.callbacks.Callback):
    """Raises what the steps of an epoch have noted, at the end of it.

    Before other callbacks take the epoch for done, and keep its weights.

    Args:
        check: `BatchCheck`.
    """

    def __init__(self, check):
        super().__init__()
        self._check = check

    def on_epoch_end(self, epoch, logs=None):
        self._check.read()


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

import keras


class EndOfEpoch(keras.callbacks.Callback):
    """Reads the report of the steps, and logs `alpha` and `temperature`.

    It has to run before the callbacks that save the weights of the epoch, and
    before those that read the logs, as `History`, `CSVLogger` and `TensorBoard`
    do.
    """

    def __init__(self, check, objective):
        super().__init__()
        self._check = check
        self._objective = objective

    def on_epoch_end(self, epoch, logs=None):
        self._check.finish()
        if logs is not None:
            logs.update(self._objective.hyperparameters())


def prepend_callback(own: keras.callbacks.Callback, callbacks):
    """Returns the argument `callbacks` of `fit` with `own` in front."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # It may contain the callback of an earlier `fit`.
        kept = [
            callback
            for callback in callbacks.callbacks
            if not isinstance(callback, type(own))
        ]
        own.set_model(callbacks.model)
        callbacks.callbacks[:] = [own, *kept]
        return callbacks
    return [own, *keras.tree.flatten(callbacks or [])]

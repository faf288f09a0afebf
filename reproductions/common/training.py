"""Trainings that resume after their last whole epoch."""

import shutil

import keras
import numpy as np
import tensorflow as tf

# Training steps that TensorFlow takes between two visits to Python. In small
# networks, the visits take most of the time.
STEPS_PER_EXECUTION = 20


def fit_or_resume(
    model, make_batches, steps, epochs, folder, notify, callbacks=(), **kwargs
):
    """Fits a compiled model, from where its backup is, if there is one.

    Args:
        model: The model, or its distiller.
        make_batches: Function from the number of epochs that were before to
            a dataset of the batches of all others.
        steps: Number of batches in an epoch.
        epochs: Number of epochs, those before included.
        folder: Where the backup is kept.
        notify: Function that is told the share that is done.
        callbacks: Other callbacks.
        **kwargs: Other arguments of `fit`.
    """
    backup = _Backup(folder / "backup")
    before = backup.restore(model)
    if before == epochs:
        # What `fit` ends with: averaged weights take the weights' place.
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return
    model.fit(
        make_batches(before),
        epochs=epochs,
        initial_epoch=before,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
            backup,
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: notify((epoch + 1) / epochs)
            ),
        ],
        **kwargs,
    )


class _Backup(keras.callbacks.Callback):
    """Keeps the state after each epoch, so that a kill costs no more than one.

    Unlike `keras.callbacks.BackupAndRestore` it keeps the states of random
    seeds, which dropout has, and the number of the epoch can not be that of
    other weights: both appear at once.

    Args:
        folder: Where the state is kept.
    """

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def restore(self, model):
        """Returns the number of epochs that are in the state it restores."""
        finished = self._list_epochs()
        if not finished:
            return 0
        last = self._folder / str(max(finished))
        model.optimizer.build(model.trainable_variables)
        model.load_weights(last / "model.weights.h5")
        with np.load(last / "seeds.npz") as seeds:
            for number, variable in enumerate(_list_seeds(model)):
                variable.assign(seeds[str(number)])
        return max(finished)

    def on_epoch_end(self, epoch, logs=None):
        unfinished = self._folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self.model.save_weights(unfinished / "model.weights.h5")
        np.savez(
            unfinished / "seeds.npz",
            **{
                str(number): keras.ops.convert_to_numpy(variable)
                for number, variable in enumerate(_list_seeds(self.model))
            },
        )
        unfinished.rename(self._folder / str(epoch + 1))
        for former in self._list_epochs() - {epoch + 1}:
            shutil.rmtree(self._folder / str(former))

    def _list_epochs(self):
        return {
            int(path.name)
            for path in self._folder.glob("*")
            if path.name.isdigit()
        }


def _list_seeds(model):
    """Returns the variables that weights files do not have."""
    known = {id(each) for each in model.weights}
    return [each for each in model.variables if id(each) not in known]


def count_epoch_steps(examples, batch_size):
    """Returns the number of batches in an epoch of `draw_batches`.

    It is a multiple of `STEPS_PER_EXECUTION`, or below it. The examples that
    are left over are others in each epoch.
    """
    steps = examples // batch_size
    if steps < 1:
        raise ValueError(
            f"Expected at least {batch_size} examples, a batch of them. "
            f"Received: {examples}"
        )
    return steps - steps % min(steps, STEPS_PER_EXECUTION)


def draw_batches(
    examples, batch_size, epochs, seed, first_epoch=0, draw=lambda seeds: ()
):
    """Returns which examples are in the batches of a training.

    What is drawn depends on the seed and the number of the epoch alone, so that
    a training that is resumed sees what it would have seen.

    Args:
        examples: Number of examples.
        batch_size: Number of examples in a batch.
        epochs: Number of epochs.
        seed: Integer.
        first_epoch: Epochs that were before.
        draw: Function from seeds, as `tf.random.stateless_uniform` takes them,
            to a tuple of tensors of shape `(examples,)`: what else is drawn
            for each place in an epoch.

    Returns:
        A `tf.data.Dataset` of tuples: indices, and what else is drawn. Neither
        it nor what is made of it is tuned while it is read.
    """
    steps = count_epoch_steps(examples, batch_size)

    def draw_epoch(epoch):
        seeds = tf.stack([tf.constant(seed, epoch.dtype), epoch])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(examples), seed=seeds
        )
        each = tf.data.Dataset.from_tensor_slices((order, *draw(seeds)))
        return each.batch(batch_size).take(steps)

    # Whoever ends a training may wait for the thread that tunes it: once more
    # as long as it took, or up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    drawn = tf.data.Dataset.range(first_epoch, epochs).flat_map(draw_epoch)
    return drawn.with_options(options)

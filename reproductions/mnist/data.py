"""MNIST: split, shifted, and in batches."""

import functools
import typing

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_distill
from reproductions.common.training import draw_batches

IMAGE_SHAPE = (28, 28)
CLASSES = 10
TRAIN_SIZE = 60000
VALIDATION_SIZE = 5000

# Jitter: every shift by up to two pixels. A number for each.
MOST_PIXELS = 2
_STEPS = 2 * MOST_PIXELS + 1
SHIFTS = _STEPS**2
NO_SHIFT = SHIFTS // 2


class Examples(typing.NamedTuple):
    """Images and what is in them.

    Args:
        images: Array of bytes of shape `(examples, 28, 28)`.
        labels: Array of integers of shape `(examples,)`.
    """

    images: np.ndarray
    labels: np.ndarray

    def take(self, chosen):
        """Returns the chosen examples, given as indices or a mask."""
        return Examples(self.images[chosen], self.labels[chosen])


def load(train_size, split):
    """Returns what is trained on and what is judged on.

    Args:
        train_size: Number of training images. Without those for validation,
            which are never trained on, there are 55,000.
        split: `"validation"` for the last 5,000 training images, `"test"` for
            MNIST's own test images.

    Returns:
        Tuple of two `Examples`.
    """
    judged = {
        "validation": f"train[{TRAIN_SIZE - VALIDATION_SIZE}:]",
        "test": "test",
    }[split]
    return load_train(train_size), _load(judged)


def load_train(train_size):
    """Returns so many training images, the first ones, as `Examples`."""
    return _load(f"train[:{train_size}]")


# A process that trains many networks reads the images once.
@functools.cache
def _load(split):
    loaded = tfds.load("mnist", split=split, batch_size=-1)
    return Examples(
        loaded["image"].numpy()[..., 0],
        loaded["label"].numpy().astype("int32"),
    )


def scale(images):
    """Returns images of bytes as floats in [0, 1], what networks see."""
    return np.float32(images) / 255


def shift(images, numbers):
    """Shifts images by up to two pixels, and fills up with paper.

    Args:
        images: Tensor of bytes of shape `(batch, 28, 28)`.
        numbers: Integer tensor of shape `(batch,)`, from 0 to `SHIFTS - 1`.

    Returns:
        Tensor like the images.
    """
    height, width = IMAGE_SHAPE
    row = width + 2 * MOST_PIXELS
    margin = [MOST_PIXELS, MOST_PIXELS]
    padded = tf.pad(images, [[0, 0], margin, margin])
    flat = tf.reshape(padded, [-1, (height + 2 * MOST_PIXELS) * row])
    rows = np.arange(height)[:, None] * row
    window = tf.constant((rows + np.arange(width)).reshape(-1), tf.int32)
    corners = (numbers // _STEPS) * row + numbers % _STEPS
    pixels = tf.gather(flat, corners[:, None] + window, batch_dims=1)
    return tf.reshape(pixels, [-1, height, width])


def make_all_shifts(images, batch_size):
    """Returns the batches of all images with the first shift, then the next.

    Args:
        images: Array of bytes of shape `(images, 28, 28)`.
        batch_size: Number of images in a batch.

    Returns:
        A `tf.data.Dataset` of floats in [0, 1].
    """
    count = len(images)
    pixels = tf.constant(images)

    def look_up(places):
        batch = shift(tf.gather(pixels, places % count), places // count)
        return tf.cast(batch, "float32") / 255

    places = tf.data.Dataset.range(SHIFTS * count, output_type=tf.int32)
    return places.batch(batch_size).map(look_up)


def draw_share(labels, fraction, seed):
    """Draws a share of the examples, the same of each class.

    Args:
        labels: Array of the class of each example.
        fraction: The share. Of a small class it is one example at least.
        seed: Integer.

    Returns:
        Sorted array of indices.
    """
    if fraction == 1:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        drawn.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(drawn))


def draw_shifts(seeds, count, jitter):
    """Draws shifts by up to two pixels in each direction.

    Args:
        seeds: As `tf.random.stateless_uniform` takes them.
        count: How many.
        jitter: `"uniform"`, or `"triangular"` for the sum of two uniform ones
            by up to a pixel, which is more often small.

    Returns:
        Integer tensor of shape `(count,)`, from 0 to `SHIFTS - 1`.
    """
    if jitter == "uniform":
        return tf.random.stateless_uniform(
            [count], seeds, maxval=SHIFTS, dtype=tf.int32
        )
    if jitter == "triangular":
        drawn = tf.random.stateless_uniform(
            [4, count], seeds, maxval=MOST_PIXELS + 1, dtype=tf.int32
        )
        down, again_down, right, again_right = tf.unstack(drawn)
        return (down + again_down) * _STEPS + right + again_right
    raise ValueError(
        f"Expected `jitter` to be 'uniform' or 'triangular'. Received: {jitter}"
    )


def make_batches(
    examples,
    batch_size,
    epochs,
    seed,
    *,
    jitter=None,
    soft_targets=None,
    first_epoch=0,
):
    """Returns the batches of a training, or of the rest of it.

    Args:
        examples: `Examples`.
        batch_size: Number of examples in a batch.
        epochs: Number of epochs.
        seed: Integer, of their order and shifts.
        jitter: How each image is shifted, another way each time: `"uniform"`
            or `"triangular"`, see `draw_shifts`. Defaults to `None`: not.
        soft_targets: Array of shape `(shifts, examples, 10)`: the teacher's
            logits for each shift, or those for all of them if `shifts` is 1.
        first_epoch: Epochs that were before.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`. If there are soft targets,
        they are beside the images, in the form that `Distiller.fit` takes.
    """
    count = len(examples.labels)
    images = tf.constant(examples.images)
    labels = tf.constant(examples.labels)
    logits = None if soft_targets is None else tf.constant(soft_targets)

    def look_up(indices, numbers):
        batch = tf.gather(images, indices)
        if jitter is not None:
            batch = shift(batch, numbers)
        batch = tf.cast(batch, "float32") / 255
        targets = tf.gather(labels, indices)
        if logits is None:
            return batch, targets
        which = numbers if len(logits) > 1 else tf.zeros_like(numbers)
        rows = tf.gather_nd(logits, tf.stack([which, indices], axis=1))
        return keras_distill.WithSoftTargets(batch, rows), targets

    drawn = draw_batches(
        count,
        batch_size,
        epochs,
        seed,
        first_epoch,
        lambda seeds: (draw_shifts(seeds, count, jitter or "uniform"),),
    )
    return drawn.map(look_up).prefetch(2)

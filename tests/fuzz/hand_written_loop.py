"""Distillation as a user would write it with `GradientTape`.

It imports nothing of `keras_distill`. The loss is computed in float64.
"""

import keras
import numpy as np
import tensorflow as tf


def log_softmax(logits, temperature=1.0):
    return tf.nn.log_softmax(tf.cast(logits, tf.float64) / temperature)


def soft_loss(kind, teachers, student, temperature):
    """Returns the loss of each sample between logits, or of each position.

    The soft targets of several teachers are the mean of their probabilities.
    """
    if kind == "logit_matching":
        (teacher,) = teachers
        difference = tf.cast(student, tf.float64) - teacher
        mean = tf.reduce_mean(difference, -1, keepdims=True)
        return 0.5 * tf.reduce_mean(tf.square(difference - mean), -1)
    parts = [log_softmax(logits, temperature) for logits in teachers]
    log_p = tf.reduce_logsumexp(tf.stack(parts), 0) - np.log(len(parts))
    log_q = log_softmax(student, temperature)
    if kind == "crossentropy":
        values = -tf.exp(log_p) * log_q
    else:
        values = tf.exp(log_p) * (log_p - log_q)
    return temperature**2 * tf.reduce_sum(values, -1)


def weighted_mean(values, weight, mask):
    """Returns the mean as `keras.losses.Loss` does: divided by the count."""
    count = tf.cast(tf.size(values), tf.float64)
    if mask is not None:
        mask = tf.cast(mask, tf.float64)
        count = tf.reduce_sum(mask)
        values = values * mask
    if weight is not None:
        weight = tf.cast(weight, tf.float64)
        values = values * tf.reshape(
            weight, [-1] + [1] * (len(values.shape) - 1)
        )
    return tf.reduce_sum(values) / count


class Trainer:
    """Trains a student by hand.

    Args:
        student: Model whose outputs are logits.
        has_softmax: Whether the hard loss gets probabilities.
        optimizer: Optimizer of Keras.
        hard_loss: Loss of Keras, or `None`.
        hard_weights: The `loss_weights` of the outputs.
        terms: For each output a list of `(kind, weight)`.
    """

    def __init__(
        self, student, has_softmax, optimizer, hard_loss, hard_weights, terms
    ):
        self.student = student
        self.has_softmax = has_softmax
        self.optimizer = optimizer
        self.hard_loss = hard_loss
        self.hard_weights = hard_weights
        self.terms = terms
        optimizer.build(student.trainable_variables)

    def losses(self, x, y, teachers, weight, alpha, temperature, training):
        """Returns the loss, the soft loss and the hard loss of a batch."""
        outputs = keras.tree.flatten(self.student(x, training=training))
        soft = hard = tf.constant(0.0, tf.float64)
        for number, logits in enumerate(outputs):
            mask = getattr(logits, "_keras_mask", None)
            targets = [flat[number] for flat in teachers]
            for kind, term_weight in self.terms[number]:
                values = soft_loss(kind, targets, logits, temperature)
                soft += term_weight * weighted_mean(values, weight, mask)
            if self.hard_loss is not None:
                prediction = logits
                if self.has_softmax:
                    prediction = keras.ops.softmax(logits)
                    prediction._keras_mask = mask
                value = self.hard_loss(y[number], prediction, weight)
                hard += tf.cast(self.hard_weights[number] * value, tf.float64)
        total = soft
        if self.hard_loss is not None:
            total = alpha * soft + (1 - alpha) * hard
        for value in self.student.losses:
            total += tf.cast(value, tf.float64)
        return total, soft, hard

    def fit(self, batches, alpha, temperature):
        """Trains one epoch, and returns the mean losses."""

        def step(*batch):
            with tf.GradientTape() as tape:
                losses = self.losses(*batch, alpha, temperature, True)
                loss = tf.cast(losses[0], tf.float32)
            variables = self.student.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(
                zip(gradients, variables, strict=True)
            )
            return losses

        return _average(step, batches)

    def evaluate(self, batches, alpha, temperature):
        """Returns the mean losses."""
        return _average(
            lambda *batch: self.losses(*batch, alpha, temperature, False),
            batches,
        )


def _average(step, batches):
    """Returns the mean losses of the samples in all batches."""
    sums, count = np.zeros(3), 0
    for x, *rest in batches:
        size = len(keras.tree.flatten(x)[0])
        sums += size * np.array(step(x, *rest))
        count += size
    return sums / count

"""The formulas in float64 NumPy, written independently of the package."""

import numpy as np
from scipy.special import log_softmax
from scipy.special import logsumexp
from scipy.special import softmax


def crossentropy(teacher, student, temperature):
    teacher, student = np.float64(teacher), np.float64(student)
    p = softmax(teacher / temperature, -1)
    return -(temperature**2) * np.sum(
        p * log_softmax(student / temperature, -1), -1
    )


def kl_divergence(teacher, student, temperature):
    teacher, student = np.float64(teacher), np.float64(student)
    log_p = log_softmax(teacher / temperature, -1)
    log_q = log_softmax(student / temperature, -1)
    return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), -1)


def soft_gradient(teacher, student, temperature):
    teacher, student = np.float64(teacher), np.float64(student)
    return temperature * (
        softmax(student / temperature, -1) - softmax(teacher / temperature, -1)
    )


def logit_matching(teacher, student):
    teacher, student = np.float64(teacher), np.float64(student)
    z = student - student.mean(-1, keepdims=True)
    v = teacher - teacher.mean(-1, keepdims=True)
    return 0.5 * np.sum((z - v) ** 2, -1) / student.shape[-1]


def logit_matching_gradient(teacher, student):
    teacher, student = np.float64(teacher), np.float64(student)
    z = student - student.mean(-1, keepdims=True)
    v = teacher - teacher.mean(-1, keepdims=True)
    return (z - v) / student.shape[-1]


def is_top(teacher, k):
    """Where the k largest logits of each row are."""
    rank = np.argsort(np.argsort(-np.float64(teacher), -1), -1)
    return rank < k


def _log_buckets(logits, temperature, top, k):
    """Log probabilities of the k classes, and of all others together."""
    log_p = log_softmax(np.float64(logits) / temperature, -1)
    kept = log_p[top].reshape(*log_p.shape[:-1], k)
    rest = logsumexp(np.where(top, -np.inf, log_p), -1, keepdims=True)
    return np.concatenate([kept, rest], -1)


def top_k_crossentropy(teacher, student, temperature, k):
    top = is_top(teacher, k)
    log_p = _log_buckets(teacher, temperature, top, k)
    log_q = _log_buckets(student, temperature, top, k)
    return -(temperature**2) * np.sum(np.exp(log_p) * log_q, -1)


def top_k_kl_divergence(teacher, student, temperature, k):
    log_p = _log_buckets(teacher, temperature, is_top(teacher, k), k)
    entropy = -np.sum(np.exp(log_p) * np.maximum(log_p, -1e9), -1)
    return (
        top_k_crossentropy(teacher, student, temperature, k)
        - temperature**2 * entropy
    )


def top_k_gradient(teacher, student, temperature, k):
    top = is_top(teacher, k)
    log_p = log_softmax(np.float64(teacher) / temperature, -1)
    log_q = log_softmax(np.float64(student) / temperature, -1)
    p_rest = np.where(top, 0, np.exp(log_p)).sum(-1, keepdims=True)
    within = softmax(np.where(top, -np.inf, log_q), -1)
    q = np.exp(log_q)
    return temperature * np.where(top, q - np.exp(log_p), q - p_rest * within)


def entropy_within_rest(teacher, temperature, k):
    """What the crossentropy of buckets leaves out, times T^2."""
    top = is_top(teacher, k)
    p = softmax(np.float64(teacher) / temperature, -1)
    within = softmax(
        np.where(top, -np.inf, np.float64(teacher) / temperature), -1
    )
    logs = np.log(np.where(within > 0, within, 1.0))
    return -(temperature**2) * np.sum(np.where(top, 0, p) * logs, -1)


def hard_crossentropy(labels, student):
    """Zero where the label is -1."""
    log_q = log_softmax(np.float64(student), -1)
    known = labels >= 0
    picked = log_q[np.arange(len(labels)), np.where(known, labels, 0)]
    return np.where(known, -picked, 0.0)


def hard_gradient(labels, student):
    known = labels >= 0
    one_hot = np.eye(student.shape[-1])[np.where(known, labels, 0)]
    return (softmax(np.float64(student), -1) - one_hot) * known[:, None]


class LinearStudent:
    """Distillation of a linear student with plain gradient descent.

    Every number that Keras logs and every weight after training follows from
    the paper's formula, by hand.
    """

    def __init__(self, kernel, bias, *, temperature=4.0, alpha=0.9, rate=0.1):
        self.kernel = np.float64(kernel)
        self.bias = np.float64(bias)
        self.temperature = temperature
        self.alpha = alpha
        self.rate = rate
        self.l2 = 0.0

    def logits(self, x):
        return np.float64(x) @ self.kernel + self.bias

    def losses(self, x, labels, teacher, weight=None):
        """The losses of one batch, as they are logged."""
        weight = np.ones(len(x)) if weight is None else np.float64(weight)
        z = self.logits(x)
        soft = np.mean(weight * crossentropy(teacher, z, self.temperature))
        losses = {"soft_loss": soft, "loss": soft}
        if labels is not None:
            known = np.sum(labels >= 0)
            hard = np.sum(weight * hard_crossentropy(labels, z)) / known
            losses["hard_loss"] = hard
            losses["loss"] = self.alpha * soft + (1 - self.alpha) * hard
        losses["loss"] += self.l2 * np.sum(self.kernel**2)
        return losses

    def gradients(self, x, labels, teacher, weight=None):
        weight = np.ones(len(x)) if weight is None else np.float64(weight)
        z = self.logits(x)
        by_logit = soft_gradient(teacher, z, self.temperature) / len(x)
        if labels is not None:
            by_logit = self.alpha * by_logit + (1 - self.alpha) * (
                hard_gradient(labels, z) / np.sum(labels >= 0)
            )
        by_logit *= weight[:, None]
        kernel = np.float64(x).T @ by_logit + 2 * self.l2 * self.kernel
        return kernel, by_logit.sum(0)

    def step(self, x, labels, teacher, weight=None):
        kernel, bias = self.gradients(x, labels, teacher, weight)
        self.kernel -= self.rate * kernel
        self.bias -= self.rate * bias

    def fit(self, x, labels, teacher, batch_size, epochs=1, weight=None):
        """Trains without shuffling; returns the logs of each epoch."""
        history = []
        for _ in range(epochs):
            logs: dict[str, float] = {}
            for start in range(0, len(x), batch_size):
                rows = slice(start, start + batch_size)
                batch = [
                    None if part is None else part[rows]
                    for part in (x, labels, teacher, weight)
                ]
                for name, value in self.losses(*batch).items():
                    share = len(batch[0]) / len(x)
                    logs[name] = logs.get(name, 0.0) + share * value
                self.step(*batch)
            history.append(logs)
        return history


def brier(labels, logits):
    """The score of each sample."""
    one_hot = np.eye(logits.shape[-1])[labels]
    return np.sum((softmax(np.float64(logits), -1) - one_hot) ** 2, -1)


def entropy(logits, temperature):
    log_p = log_softmax(np.float64(logits) / temperature, -1)
    return -np.sum(np.exp(log_p) * log_p, -1)


def calibration_error(labels, logits, bins, weights=None):
    """Bin by bin, as Guo et al. write it."""
    q = softmax(np.float64(logits), -1)
    confidence = q.max(-1)
    correct = q.argmax(-1) == labels
    weights = np.ones(len(q)) if weights is None else np.float64(weights)
    error = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if weights[inside].sum() > 0:
            accuracy = np.average(correct[inside], weights=weights[inside])
            sure = np.average(confidence[inside], weights=weights[inside])
            share = weights[inside].sum() / weights.sum()
            error += share * abs(accuracy - sure)
    return error

import numpy as np
import pytest
from scipy.special import softmax

from keras_distill.teachers.ensemble import arithmetic_mean_logits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_softmax_of_the_mean_logits_is_the_mean_softmax(temperature, size):
    members = size * np.random.default_rng(0).normal(size=(4, 5, 6))
    members = members.astype("float32")
    logits = arithmetic_mean_logits(list(members), temperature)
    mean = softmax(np.float64(members) / temperature, -1).mean(0)
    np.testing.assert_allclose(
        softmax(np.float64(logits) / temperature, -1),
        mean,
        rtol=2e-6 * max(1.0, size / temperature / 100),
        atol=1e-12,
    )


def test_of_one_member():
    logits = np.float32([[3.0, 1.0, -1e4]])
    mean = np.float64(arithmetic_mean_logits([logits], 4.0))
    np.testing.assert_allclose(mean - mean.max(), logits - 3.0, rtol=1e-5)


def test_nothing_underflows():
    """Both members are sure, of different classes: half the mass each."""
    members = [np.float32([[1e4, 0.0, 0.0]]), np.float32([[0.0, 1e4, 0.0]])]
    logits = np.float64(arithmetic_mean_logits(members, 1.0))
    np.testing.assert_allclose(logits[0, :2], np.log([0.5, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(logits[0, 2], -1e4, rtol=1e-6)

import keras
import numpy as np
import pytest

SAMPLES, FEATURES, CLASSES = 22, 6, 5


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(7)
    yield
    keras.backend.clear_session()
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def data():
    """Inputs and labels: 22 samples, so that batches of 8 end in a rest."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, SAMPLES)


@pytest.fixture
def make_model():
    """Makes linear models whose logits are a few units apart."""

    def make(activation=None, seed=0, **kwargs):
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(
                    CLASSES,
                    activation=activation,
                    kernel_initializer=keras.initializers.RandomNormal(
                        stddev=1.5, seed=seed
                    ),
                    bias_initializer=keras.initializers.RandomNormal(
                        stddev=0.5, seed=seed + 1
                    ),
                    **kwargs,
                ),
            ]
        )

    return make

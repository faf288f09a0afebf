import keras
import numpy as np
import pytest

SAMPLES, FEATURES, CLASSES = 22, 6, 5


def pytest_collection_modifyitems(items):
    present = keras.backend.backend()
    for item in items:
        for mark in item.iter_markers("backend"):
            if present not in mark.args:
                of = " and ".join(mark.args)
                reason = f"only on {of}: {mark.kwargs['reason']}"
                item.add_marker(pytest.mark.skip(reason=reason))


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # The models are so small that threads and Grappler only cost time.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )

if keras.backend.backend() == "torch":
    import torch

    # As tensors of the other backends do, wherever a test compares them.
    _to_array = torch.Tensor.__array__
    torch.Tensor.__array__ = lambda self, dtype=None, copy=None: _to_array(
        self.detach(), dtype
    )


@pytest.fixture(autouse=True)
def _eager(request):
    """Runs functions eagerly: to trace them takes most of the time."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    compiled = request.node.get_closest_marker("compiled")
    eager = not (compiled or request.config.getoption("--compile"))
    tf.config.run_functions_eagerly(eager)
    yield
    # The fixtures of a module compile: they run before this one.
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(7)
    yield
    # To collect garbage takes seconds where several frameworks are loaded.
    keras.backend.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def data():
    """Inputs and labels: 22 samples, so that batches of 8 end in a rest."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, SAMPLES)


@pytest.fixture(scope="session")
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

import os

import pytest

# Two processes share two cores, and a worker process has one thread, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


@pytest.fixture(autouse=True)
def _seed():
    # Not at the top: the process that only distributes tests has no need of it.
    import keras

    keras.utils.set_random_seed(7)
    yield
    # Collecting garbage takes seconds where several frameworks are loaded.
    keras.backend.clear_session(free_memory=False)

import keras
import pytest


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(7)
    yield
    # Collecting garbage takes seconds where several frameworks are loaded.
    keras.backend.clear_session(free_memory=False)

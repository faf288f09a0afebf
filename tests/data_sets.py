"""Which real data sets the tests have."""

import pathlib

import pytest
import tensorflow_datasets as tfds


def needs(name):
    """Returns the mark of tests that need a data set, which none downloads."""
    prepared = pathlib.Path(tfds.builder(name).data_dir).exists()
    return pytest.mark.skipif(
        not prepared, reason=f"{name} is not prepared (see TFDS_DATA_DIR)"
    )

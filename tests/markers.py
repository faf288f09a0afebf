"""Tests that can not be those of every backend, and why."""

import pytest

several_steps = pytest.mark.backend(
    "jax", "tensorflow", reason="Keras refuses `steps_per_execution` on torch"
)
fast_compiler = pytest.mark.backend(
    "jax", "tensorflow", reason="`torch.compile` takes minutes"
)
float64 = pytest.mark.backend(
    "tensorflow",
    reason="JAX has no float64 unless told at its start, and on torch Keras "
    "itself has fewer digits",
)
saved_model = pytest.mark.backend(
    "jax", "tensorflow", reason="Keras exports no SavedModel from torch 2.13"
)

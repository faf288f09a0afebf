"""Marks of tests that some backends cannot run, with the reasons."""

import pytest

several_steps = pytest.mark.backend(
    "jax", "tensorflow", reason="Keras refuses `steps_per_execution` on torch"
)
fast_compiler = pytest.mark.backend(
    "jax", "tensorflow", reason="`torch.compile` takes minutes"
)
float64 = pytest.mark.backend(
    "tensorflow",
    reason="JAX needs a flag for float64, and Keras on torch has fewer digits",
)
saved_model = pytest.mark.backend(
    "jax", "tensorflow", reason="Keras 3.15 fails to export a SavedModel there"
)

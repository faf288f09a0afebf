"""Soft targets joined to the data."""

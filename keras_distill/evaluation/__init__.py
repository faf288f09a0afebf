"""Compares models on a test set."""

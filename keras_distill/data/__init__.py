"""Data for `fit`, `evaluate` and `create`: checks, batches and the cache."""

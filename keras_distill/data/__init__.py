"""What enters `fit`, `evaluate` and `create`."""

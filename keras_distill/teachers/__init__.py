"""Whatever gives logits for an input."""

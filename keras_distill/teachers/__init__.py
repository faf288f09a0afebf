"""Teachers: models, functions and ensembles that return logits."""

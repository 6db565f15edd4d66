"""How lam is drawn in training, one way per file."""

"""Attacks see `x -> logits` and a ball, never lam."""

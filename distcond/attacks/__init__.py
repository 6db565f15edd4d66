"""Attacks on `x -> logits` within an epsilon; they never see lam. `Attack` values, which the registry finds here.

May import config, seeding, registry and errors; no layer, model, data set or run.
"""

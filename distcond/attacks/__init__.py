"""Attacks on `x -> logits` within a threat model. Each file exports `Attack` values, which the registry finds here.

May import config, seeding, registry and errors; no layer, model, data set or run.
"""

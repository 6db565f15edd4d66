"""Whether an attack fails because gradients are masked: checks on any `x -> logits`, and the evidence they look at.

May import attacks, config, seeding and errors; no layer, model, data set or run.
"""

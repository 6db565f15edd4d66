"""Detects gradient masking, where attacks fail although the network is not robust, for any `x -> logits`.

May import attacks, config, seeding and errors; no layer, model, data set or run.
"""

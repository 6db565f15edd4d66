"""Data sets: found on disk, converted once per machine (`prepare`), read as batches from memory or FFCV (`loader`).

May import config, registry and the root modules; no model, attack, training or launch. A batch is a function of (seed,
epoch, step), whatever the source and the number of ranks.
"""

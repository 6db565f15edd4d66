"""Training of one run on every rank: trainer, loop, checkpoints, optimiser, ETA, training FLOPs.

May import evaluation, init_from, runs, distributed and below; not launch, tuning or ray.
"""

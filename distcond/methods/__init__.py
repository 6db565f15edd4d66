"""A paper is a value: each file exports the `Method` it implements, written over the passes of one training step.

May import models, attacks, sparsity, samplers, layers, config and the root modules; never launch, storage, runs, ray or
pyarrow.
"""

"""Training methods: each file exports the `Method` of one paper, whose loss is written in terms of `StepContext`.

May import models, attacks, sparsity, samplers, layers, config and the root modules; never launch, storage, runs or ray.
"""

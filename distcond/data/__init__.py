"""Data sets on disk and in batches: `prepare` converts one once, `loader` yields the same batches from either source.

May import config, registry, places and the root modules; no model, attack, training or launch. A batch is a function of
(seed, epoch, step): it depends neither on the reader (memory or FFCV) nor on the number of ranks.
"""

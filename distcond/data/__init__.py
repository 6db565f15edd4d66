"""Data sets, the two loaders that read them, and the order and augmentation that both share.

A data set is one file here that exports `DATASET` (see `dataset.Dataset`). `open.prepare` turns it into files that
either loader opens at once; `loader.Loader` yields the same batches, bit for bit, whichever of them reads, and the
global batch never depends on the number of ranks.
"""

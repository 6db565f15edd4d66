"""The layers, one mechanism per file, all called `(x, cond)`; a model is written once over a `LayerSet` of them.

May import condition, registry, seeding and errors; never launch, storage, runs, ray or pyarrow.
"""

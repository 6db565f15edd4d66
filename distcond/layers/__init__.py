"""Conditional layers, one mechanism per file, called as `layer(x, cond)`. Models are built from a `LayerSet` of them.

May import registry, seeding and errors; never launch, storage, runs, ray or pyarrow.
"""

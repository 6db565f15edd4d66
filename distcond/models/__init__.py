"""Networks, each written once over a `LayerSet` and so usable with every method; `ConditionalModel` holds one.

May import layers, condition, config, seeding, registry and errors; never launch, storage, runs, ray or pyarrow.
"""

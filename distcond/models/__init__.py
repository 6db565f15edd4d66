"""Networks, each written once over a `LayerSet` and usable with every method; `ConditionalModel` wraps one.

May import layers, config, mixednuts, operating_point, seeding, registry and errors; never launch, storage, runs or ray.
"""

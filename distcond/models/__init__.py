"""Networks, each written once over a `LayerSet` and so usable with every method."""

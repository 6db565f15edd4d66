"""One mechanism per file; every layer is called `(x, cond)`. A model is written once over a `LayerSet`."""

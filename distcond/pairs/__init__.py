"""Makes pairs: two trained networks become one run directory (`python -m distcond.pair`).

May import evaluation, runs, distributed and below. What loading a pair needs is in runs (pair_record, interpolation).
"""

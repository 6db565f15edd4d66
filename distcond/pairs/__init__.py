"""Makes a pair: two networks that were trained apart become one run directory (`python -m distcond.pair`).

May import evaluation, runs, distributed and below; what a pair is loaded with is in runs (pair_record, interpolation).
"""

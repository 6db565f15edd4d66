"""Pairs of runs: two networks that were trained apart, put side by side as one run (`python -m distcond.pair`)."""

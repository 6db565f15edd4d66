"""Sweeps on Ray Tune: it places trials, runs them side by side and reports the ones that died.

May import launch, tuning and lower; only the tune command imports it.
"""

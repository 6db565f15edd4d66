"""Sweeps on Ray Tune: it places the trials, runs them side by side and tells when one is gone."""

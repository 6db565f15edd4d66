"""Runs on Ray Train: the Ray itself, its workers, and what its errors mean.

With `distcond.tuning.ray_backend` the only packages that import Ray; modules that do so at the top are imported lazily.
"""

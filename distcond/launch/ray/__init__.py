"""Runs on Ray Train: start or join the Ray cluster, train in its workers, translate its errors.

With `distcond.tuning.ray_backend` the only package that imports Ray. Modules that import Ray at their top are imported
lazily.
"""

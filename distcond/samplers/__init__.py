"""Distributions of lam in training: `sampler` has the `Sampler` value, `distributions` all built-in ones.

May import config and errors. The registry walks this package: add a file here, or use `sampler=my.module:NAME`.
"""

"""How lam is drawn in training: `sampler` says what a sampler is, `distributions` has all that come with the package.

May import config and errors. The registry walks this package: your own are more files here, or `my.module:NAME`.
"""

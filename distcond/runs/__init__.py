"""One run on disk and at a URI: file names, run directory, checkpoints, its network, remote copy, status.

May import distributed, methods, models, data, storage, results and below; not training, evaluation, init_from, launch.
"""

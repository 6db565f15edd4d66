"""One run on disk and at a URI: run directory, checkpoints, network, provenance, remote copy, status.

May import distributed, methods, models, data, storage, results and below; not training, evaluation, init_from, launch.
"""

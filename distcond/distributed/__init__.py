"""Process group, rendezvous and collectives of the ranks of one run.

May import errors, atomic_io, private_dir, layers (pooling of statistics) and storage.errors, nothing else.
"""

"""Process group, rendezvous and collectives of the ranks of one run.

May import errors and storage.store (for its error type); torch.distributed is used here and in the launchers alone.
"""

"""What `tests/faults` does to a run: the kinds of fault, the run they happen to, and what must hold afterwards."""

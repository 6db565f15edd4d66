"""Fault injection for `tests/faults`: the kinds of fault, the run they happen to, and the checks afterwards."""

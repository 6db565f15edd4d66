"""Initialises a run from existing weights (`init_from`): reading, key mappings, matching of tensors, report.

May import runs, distributed and below; not training. A new key mapping is one more module, or an entry of formats.py.
"""

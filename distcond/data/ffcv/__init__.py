"""FFCV, which is optional: reading and writing its files. The only place that imports the library.

`source` and `writer` import without it; `pipeline` subclasses FFCV's classes, so only `source` imports that, lazily.
"""

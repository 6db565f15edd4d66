"""The data sets, each a `Dataset` value that the registry finds by walking this package: a new one is a new file.

May import the rest of distcond.data.
"""

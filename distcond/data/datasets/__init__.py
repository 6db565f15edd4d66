"""The data sets, each a `Dataset` value. The registry walks this package: a new data set is a new file.

May import the rest of distcond.data.
"""

"""How data sets lie on disk: each file reads one format (`layout.Layout`), and nothing is unpickled.

May import distcond.data's dataset, labels, splits, checksums, image_codec; no data set.
"""

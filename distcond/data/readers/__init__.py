"""On-disk formats: each file reads one format (a `layout.Layout`). Nothing is unpickled.

May import distcond.data's dataset, labels, splits, checksums, image_codec and progress_bar; no data set.
"""

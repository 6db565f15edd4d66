"""Files by URI (S3, GCS, HDFS, ...) through pyarrow.fs, and a local directory mirrored to one.

May import root modules only.
"""

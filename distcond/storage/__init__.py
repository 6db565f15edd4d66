"""Files by URI (S3, GCS, HDFS, ...) through pyarrow.fs, and mirroring a directory to them.

May import config and root modules only; knows nothing of runs but their listing.
"""

"""Files by URI: an object store or a file system somewhere else, by pyarrow.fs; and mirroring a directory to it."""

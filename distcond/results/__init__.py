"""Results: typed rows of integer counts, their files, tables and figures."""

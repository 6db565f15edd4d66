"""Where else the numbers of a run are shown: one file per tool, each imported only where it is asked for."""

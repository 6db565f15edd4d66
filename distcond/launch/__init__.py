"""Start a run, on Ray or in this process: the only room that imports Ray, and only once it is needed."""

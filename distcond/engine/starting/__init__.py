"""Starting a run from weights that exist: where they lie, whether they fit, what was taken."""

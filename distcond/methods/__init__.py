"""A paper is a value: each file exports the `METHOD` it implements."""

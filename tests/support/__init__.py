"""Helpers for the tests of several folders. `tests` is on the path: `from support.x import y`."""

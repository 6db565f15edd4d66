"""What tests of several folders stand on; `tests` is on the path, so `from support.x import y`."""

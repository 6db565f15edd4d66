"""Counting a finished run: what is asked for, block by block, example by example, and what comes of it."""

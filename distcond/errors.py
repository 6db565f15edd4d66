"""The one error a user can cause."""

from __future__ import annotations


class ConfigError(ValueError):
    """What the user asked for cannot be done: one line saying what is wrong, where, and what would be right."""


class TransientError(ConfigError):
    """It cannot be done at present, for a reason that may pass by itself: to try again may help."""


class DiskFull(OSError):
    """There was no room for a file. One line: which disk, and how much of it is free."""

"""Exceptions that cross package borders: user errors, errors of the environment, and stopping a run."""

from __future__ import annotations


class ConfigError(ValueError):
    """A user error. The message is one line: what is wrong, where, and what would be right."""


class TransientError(ConfigError):
    """An error that may pass by itself, such as a store that does not answer: retrying may help."""


class DiskFull(OSError):
    """A file did not fit on its disk. The message is one line: which disk, and how much of it is free."""

    def __str__(self) -> str:
        # OSError would leave the message out once `filename` is set.
        return str(self.args[0]) if self.args else ""


class FolderLost(OSError):
    """A run directory was removed, renamed or replaced while it was in use. The message is one line."""


class StopRequested(Exception):
    """The run was asked to stop. Not a failure: every rank raises it at the same place and a checkpoint follows.

    `distcond.launch.stopping` has the requests (signals, stop file) and `RunStopped`, what the driver raises once the
    run has stopped.
    """

"""Errors of the Python API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distcond.errors import ConfigError
from distcond.path_errors import describe_path_error


@contextmanager
def path_errors_as_config_errors() -> Iterator[None]:
    """Within the block, turn errors about a path that the user can mend into a ConfigError, as commands print them."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        line = describe_path_error(error)
        if line is None:
            raise
        raise ConfigError(line) from error

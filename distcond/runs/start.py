"""One start of a run, recorded in its directory and published at its URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from distcond.config.schema import Config
from distcond.runs.remote import RemoteRun, remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.storage.uri import open_store


def pull_remote_run(config: Config, run: RunDir) -> RemoteRun | None:
    """For a run at a URI, check that it can be written, and pull its latest state.

    Raises:
        ConfigError: the URI cannot be read or written.
    """
    remote = remote_run_of(config, run.path)
    if remote is not None:
        open_store(config.run_root).check()
        remote.pull()
    return remote


@contextmanager
def started_run(config: Config, run: RunDir, remote: RemoteRun | None) -> Iterator[int]:
    """`run.begin`, published at the run's URI before the block; the final files are uploaded after it."""
    with published(run.begin(config), remote) as attempt:
        yield attempt


@contextmanager
def published(start: AbstractContextManager[int], remote: RemoteRun | None) -> Iterator[int]:
    """`start` (`RunDir.begin` or `RunDir.recorded_start`), published at the run's URI as in `started_run`."""
    begun = False
    try:
        with start as attempt:
            begun = True
            if remote is not None:
                remote.publish_start()
            yield attempt
    finally:
        if begun and remote is not None:  # a refused start uploads nothing
            remote.push_final()

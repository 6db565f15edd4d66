"""Local copies of runs at a URI, for evaluation and reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from distcond.atomic_io import file_lock
from distcond.config.schema import DataConfig
from distcond.errors import ConfigError
from distcond.run_layout import CHECKPOINTS_DIR, OUTCOMES_DIR, RESULTS_DIR, STARTS_FILE
from distcond.runs.remote import RemoteRun, pull_lock
from distcond.runs.run_dir import RunDir, first_start_id
from distcond.storage.errors import as_config_error
from distcond.storage.mirror import Mirror
from distcond.storage.store import Stat
from distcond.storage.uri import is_uri, parent_uri, staging, uri_name


def fetch_run(place: str | Path, checkpoints: bool) -> Path:
    """The local directory of a run or of several; for a URI, an up-to-date copy.

    Args:
        place: a path or a URI.
        checkpoints: whether to fetch checkpoints, too.

    Raises:
        ConfigError: the URI cannot be read, or nothing is there.
    """
    if not is_uri(str(place)):
        return Path(place).expanduser().absolute()
    remote = cached_run(str(place))
    try:
        with file_lock(pull_lock(remote.local)):
            _fetch(remote, checkpoints)
    except OSError as error:
        raise as_config_error(error) from error
    return remote.local


def push_back(place: str | Path) -> None:
    """Upload what an evaluation has written into the copy of a run at a URI; nothing to do for a path.

    Raises:
        ConfigError: the URI cannot be written; the results stay in the copy.
    """
    if not is_uri(str(place)):
        return
    remote = cached_run(str(place))
    mirror = Mirror(remote.local, remote.store)
    try:
        mirror.push(mirror.files(lambda name: name.startswith((f"{OUTCOMES_DIR}/", f"{RESULTS_DIR}/"))))
    except OSError as error:
        raise ConfigError(f"{error}; the rows are in {remote.local}, the same command uploads them") from error


def cached_run(uri: str) -> RemoteRun:
    """The URI with the directory of its copy. No run trains in that directory, unlike in that of `remote_run_of`."""
    cache: str = DataConfig().cache_dir
    return RemoteRun(uri, staging(parent_uri(uri), cache, "copies") / uri_name(uri))


def _fetch(remote: RemoteRun, checkpoints: bool) -> None:
    held, mirror = remote.store.names(), Mirror(remote.local, remote.store)
    if not held:
        raise ConfigError(f"{remote.uri}: nothing there; name a run or a folder of runs")
    _delete_replaced_runs(remote, held, mirror)
    mirror.pull(held, [name for name in held if f"/{CHECKPOINTS_DIR}/" not in f"/{name}"])
    if checkpoints:
        remote.fetch_checkpoints(remote.complete_checkpoints(held))


def _delete_replaced_runs(remote: RemoteRun, held: dict[str, Stat], mirror: Mirror) -> None:
    """Delete copies of runs that were deleted and trained anew at the URI: their files have the same names."""
    for name in held:
        run = RunDir((remote.local / name).parent)
        if Path(name).name != STARTS_FILE or not run.path.exists() or mirror.has(name, held[name]):
            continue
        if run.start_id != first_start_id(json.loads(remote.store.read(name))):
            shutil.rmtree(run.path)

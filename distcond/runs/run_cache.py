"""Local copies of runs at a URI, for evaluation and reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from distcond.atomic_io import file_lock
from distcond.config.schema import DataConfig
from distcond.errors import ConfigError
from distcond.run_layout import CHECKPOINTS_DIR
from distcond.runs.remote import RemoteRun
from distcond.runs.run_dir import RunDir, mark_of_starts
from distcond.storage.errors import as_config_error
from distcond.storage.mirror import Mirror
from distcond.storage.store import Stat
from distcond.storage.uri import is_uri, parent_uri, staging, uri_name


def fetch_run(place: str | Path, checkpoints: bool) -> Path:
    """The directory of a run, or of runs, on this machine: a fresh copy, if `place` is a URI.

    Args:
        place: a path or a URI.
        checkpoints: whether those of the run are wanted, too.

    Raises:
        ConfigError: the URI cannot be read, or nothing is there.
    """
    if not is_uri(str(place)):
        return Path(place).expanduser().absolute()
    home = cached_run(str(place))
    try:
        with file_lock(home.local.with_name(f".{home.local.name}.arrival")):
            _fetch(home, checkpoints)
    except OSError as error:
        raise as_config_error(error) from error
    return home.local


def push_back(place: str | Path) -> None:
    """Put what an evaluation has written in its copy of a run.

    Raises:
        ConfigError: it cannot be put; it is still in the copy.
    """
    if not is_uri(str(place)):
        return
    home = cached_run(str(place))
    mirror = Mirror(home.local, home.store)
    try:
        mirror.push(mirror.files(lambda name: name.startswith(("outcomes/", "results/"))))
    except OSError as error:
        raise ConfigError(f"{error}; the rows are in {home.local}, the same command sends them") from error


def cached_run(uri: str) -> RemoteRun:
    """Where what is at a URI is copied to. No run works there: it may go on elsewhere on this machine."""
    cache: str = DataConfig().cache_dir
    return RemoteRun(uri, staging(parent_uri(uri), cache, "copies") / uri_name(uri))


def _fetch(home: RemoteRun, checkpoints: bool) -> None:
    held, mirror = home.store.names(), Mirror(home.local, home.store)
    if not held:
        raise ConfigError(f"{home.uri}: nothing there; name a run or a place of runs")
    _drop_others(home, held, mirror)
    mirror.pull(held, [name for name in held if f"/{CHECKPOINTS_DIR}/" not in f"/{name}"])
    if checkpoints:
        home.fetch_checkpoints(home.whole(held))


def _drop_others(home: RemoteRun, held: dict[str, Stat], mirror: Mirror) -> None:
    """Delete the copies of runs in whose place others have been trained: their files bear the same names."""
    for name in held:
        run = RunDir((home.local / name).parent)
        if Path(name).name != "starts.json" or not run.path.exists() or mirror.has(name, held[name]):
            continue
        if run.mark != mark_of_starts(json.loads(home.store.read(name))):
            shutil.rmtree(run.path)

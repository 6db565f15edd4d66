"""A run directory: what is in it, under which names, and whether it is finished."""

from __future__ import annotations

import fcntl
import logging
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from distcond.atomic_io import read_json, write_json
from distcond.config.overrides import from_settings, to_settings
from distcond.config.run_id import differences, run_id
from distcond.config.schema import Config
from distcond.errors import ConfigError, TransientError
from distcond.run_layout import CHECKPOINTS_DIR, CONFIG_FILE, FINISHED_FILE, STARTS_FILE
from distcond.runs.provenance import describe_start, source_digests
from distcond.storage.errors import as_config_error
from distcond.storage.uri import child_uri, is_uri, open_store, staging

SCHEMA_VERSION = 1

#: What `fresh=true` puts behind a name; the hash before it has 8 digits.
_NUMBERED = re.compile(r"-\d{1,6}$")
_AWAY = "rename it, or set run_root=DIR or fresh=true"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDir:
    """`config.json`, `starts.json`, `classes.json`, `history.jsonl`, `progress.json`, `checkpoints/`, `results/`,
    `finished.json`."""

    path: Path

    @property
    def name(self) -> str:
        """The run_id."""
        return self.path.name

    @property
    def mark(self) -> str:
        """What tells this run from others of its name, elsewhere or before: of its first start; empty before that."""
        return mark_of_starts(self.starts())

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / CHECKPOINTS_DIR

    @property
    def finished(self) -> bool:
        """Whether the run went to its end."""
        return (self.path / FINISHED_FILE).exists()

    @contextmanager
    def begin(self, config: Config) -> Iterator[int]:
        """Take the directory for one start of the run: write the config down, add a line to `starts.json`.

        Yields:
            The attempt: how often this run was started before.

        Raises:
            ConfigError: the directory cannot be written, holds another run, or another process is at this one.
        """
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w")  # noqa: SIM115  held until the run ends, by the with below
        except OSError as error:
            raise self._unwritable(error) from error
        with lock:
            self._take(lock)
            self.check(config)
            starts = self.starts()
            try:
                self._write_start(config, starts)
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield len(starts)
            except ConfigError as error:
                self.record_end(str(error), failed=True)
                if new and not isinstance(error, TransientError) and not any(self.checkpoints.glob("*")):
                    shutil.rmtree(self.path, ignore_errors=True)  # nothing was begun: a refusal leaves nothing
                raise
            except BaseException as error:
                self.record_end(type(error).__name__, failed=isinstance(error, Exception))
                raise

    def _write_start(self, config: Config, starts: list[dict[str, Any]]) -> None:
        written = {"schema_version": SCHEMA_VERSION, "run_id": self.name, "settings": to_settings(config)}
        write_json(self.path / CONFIG_FILE, written | {"sources": source_digests(config)})
        write_json(self.path / STARTS_FILE, [*starts, describe_start()])

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(f"run_root: cannot write {self.path} ({error.strerror}); set run_root=DIR")

    def record_end(self, why: str, failed: bool) -> None:
        """Write down why this start is over, unless it went to its end or there is no writing any more."""
        starts = self.starts()
        if starts and not self.finished:
            with suppress(OSError):
                mark = {"why": why, "failed": failed, "time": time.time()}
                write_json(self.path / STARTS_FILE, [*starts[:-1], starts[-1] | {"ended": mark}])

    def check(self, config: Config) -> None:
        """Refuse a directory that does not hold the run of `config`, to resume it or to show it.

        Raises:
            ConfigError: another run lies there, as after one was renamed or copied; or it was trained with other code
                of the user's.
        """
        if not (self.path / CONFIG_FILE).exists():
            if self.finished:
                raise ConfigError(
                    f"{self.path}: config.json is missing, so whose results these are is not known; {_AWAY}"
                )
            return
        other = differences(self.config(), config)
        if other:
            path, (there, here) = next(iter(other.items()))
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise ConfigError(f"{self.path}: holds another run ({path}={there} there, {here} here{more}); {_AWAY}")
        name = str(self._written().get("run_id", self.name))
        if self.name not in (name, _NUMBERED.sub("", name)):
            raise ConfigError(f"{self.path}: holds another run (its name was {name}); {_AWAY}")
        changed = self.changed_source(config)
        if changed:
            raise ConfigError(f"{changed}; fresh=true trains anew")

    def changed_source(self, config: Config) -> str:
        """One line on what code of the user's is not what the run was trained with; "" = none that is known."""
        there, here = self._written().get("sources") or {}, source_digests(config)
        for kind, digest in here.items():
            if there.get(kind, digest) != digest:
                name = getattr(config, kind).name
                differs = f"{kind}={name}: its source is not what {self.path} was trained with"
                return f"{differs} (digest {there[kind]} there, {digest} here)"
        return ""

    def _take(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path}: this run is going on in another process; wait for it or stop it"
            ) from error
        except OSError as error:
            _log.warning("no lock on %s (%s): make sure that no other process is at this run", self.path, error)

    def config(self) -> Config:
        """The config the run was started with.

        Raises:
            ConfigError: no run here, one written by a newer distcond, or a file that is damaged.
        """
        return from_settings(self._written()["settings"])

    def _written(self) -> dict[str, Any]:
        """What `config.json` holds."""
        file = self.path / CONFIG_FILE
        if not file.exists():
            raise ConfigError(f"{self.path}: no run here (config.json is missing); name a run directory")
        written = read_json(file)
        version = written.get("schema_version") if isinstance(written, dict) else None
        if version != SCHEMA_VERSION:
            raise ConfigError(f"{file}: schema version {version!r}; this distcond reads version {SCHEMA_VERSION}")
        if not isinstance(written.get("settings"), dict):
            raise ConfigError(f"{file}: holds no settings; put back the file that the run wrote")
        return dict[str, Any](written)

    def starts(self) -> list[dict[str, Any]]:
        """One record per start of this run: when, by which command, at which commit."""
        file = self.path / STARTS_FILE
        starts = read_json(file) if file.exists() else []
        if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
            raise ConfigError(f"{file}: holds no list of starts; put back the file that the run wrote, or delete it")
        return starts


def mark_of_starts(starts: list[dict[str, Any]]) -> str:
    """`RunDir.mark`, from what `starts.json` holds."""
    return str(starts[0].get("id", "")) if starts else ""


def run_dir_for(config: Config, data_fingerprint: str) -> RunDir:
    """The absolute directory of a config's run. With `fresh`, one that does not exist yet (`-2`, `-3`, ... behind)."""
    base = run_root(config) / run_id(config, data_fingerprint)
    path, number = base, 2
    while config.fresh and _taken(config, path):
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return RunDir(path)


def working_dir(config: Config, run_path: Path) -> Path:
    """Where this machine works at the run whose directory on the driver's is `run_path`: there, or at a copy."""
    if not is_uri(config.run_root):
        return run_path
    own = run_root(config) / run_path.name
    own.mkdir(parents=True, exist_ok=True)
    return own


def _taken(config: Config, path: Path) -> bool:
    if path.exists() or not is_uri(config.run_root):
        return path.exists()
    try:
        return bool(open_store(child_uri(config.run_root, path.name)).names())
    except OSError as error:
        raise as_config_error(error) from error


def run_root(config: Config) -> Path:
    """`config.run_root` made absolute; of a URI, the directory that stands for it on this machine.

    Unset: ./runs, or ~/distcond/runs in a directory that Ray shipped to a job.
    """
    if is_uri(config.run_root):
        return staging(config.run_root, config.data.cache_dir)
    if config.run_root:
        return Path(config.run_root).expanduser().absolute()
    shipped = any(part.startswith("_ray_pkg_") for part in Path.cwd().parts)
    return Path.home() / "distcond" / "runs" if shipped else Path.cwd() / "runs"

"""RunDir: a run directory, which is taken by one process at a time and checked against the config."""

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

from distcond.atomic_io import keep_present, open_lock, read_json, write_json
from distcond.config.overrides import apply_overrides, from_settings, to_settings
from distcond.config.run_id import differences, run_id
from distcond.config.schema import EARLIER_ATTACK_NAME, Config
from distcond.errors import ConfigError, TransientError
from distcond.results.cost import read_summary
from distcond.run_layout import CHECKPOINTS_DIR, CONFIG_FILE, LOCK_FILE, STARTS_FILE
from distcond.runs.code_trust import check_named_code
from distcond.runs.provenance import describe_start, source_digests
from distcond.storage.errors import as_config_error
from distcond.storage.uri import child_uri, is_uri, open_store, staging

SCHEMA_VERSION = 1

#: The suffix that `fresh=true` adds to a name. The hash before it has 8 digits.
_NUMBERED = re.compile(r"-\d{1,6}$")
_REMEDY = "rename it, or set run_root=DIR or fresh=true"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDir:
    """The directory of one run. `distcond.run_layout` lists its files."""

    path: Path

    @property
    def name(self) -> str:
        """The run ID."""
        return self.path.name

    @property
    def start_id(self) -> str:
        """ID of the run's first start, which distinguishes it from others of the same name; "" before that."""
        return first_start_id(self.starts())

    @property
    def checkpoints(self) -> Path:
        """The directory of checkpoints."""
        return self.path / CHECKPOINTS_DIR

    @property
    def finished(self) -> bool:
        """Whether the run is finished. A damaged `finished.json` does not count: training writes it again."""
        return read_summary(self.path) is not None

    @contextmanager
    def begin(self, config: Config, patience: float = 0.0) -> Iterator[int]:
        """Lock the directory for one start of the run; write `config.json` and append to `starts.json`.

        A refused first start leaves no directory behind.

        Args:
            config: the run.
            patience: seconds to wait for another process that works on the run.

        Yields:
            The attempt: how often the run was started before.

        Raises:
            ConfigError: the directory cannot be written, holds another run, or another process works on this one.
        """
        new = not self.path.exists()
        with self.lock(patience):
            try:
                with self.recorded_start(config) as attempt:
                    yield attempt
            except ConfigError as error:
                if new and not isinstance(error, TransientError) and not any(self.checkpoints.glob("*")):
                    shutil.rmtree(self.path, ignore_errors=True)  # refused before anything was trained
                raise

    @contextmanager
    def lock(self, patience: float = 0.0) -> Iterator[None]:
        """Within the block, no other process works on this run. Creates the directory.

        Args:
            patience: seconds to wait for another process.

        Raises:
            ConfigError: the directory cannot be written, or another process works on this run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open_lock(self.path / LOCK_FILE)  # held until the run ends, by the with below
        except OSError as error:
            raise self._unwritable(error) from error
        with lock, keep_present(self.path):
            self._acquire(lock, patience)
            yield

    @contextmanager
    def recorded_start(self, config: Config) -> Iterator[int]:
        """Write `config.json` and append to `starts.json`, also why the block was left. Call with the directory locked.

        Yields:
            The attempt: how often the run was started before.

        Raises:
            ConfigError: the directory cannot be written, or holds another run.
        """
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
            raise
        except BaseException as error:
            self.record_end(type(error).__name__, failed=isinstance(error, Exception))
            raise

    def _write_start(self, config: Config, starts: list[dict[str, Any]]) -> None:
        content = {"schema_version": SCHEMA_VERSION, "run_id": self.name, "settings": to_settings(config)}
        write_json(self.path / CONFIG_FILE, content | {"sources": source_digests(config)})
        write_json(self.path / STARTS_FILE, [*starts, describe_start()])

    def _unwritable(self, error: OSError) -> ConfigError:
        reason = error.strerror or str(error)  # of a full disk, a whole line
        return ConfigError(f"run_root: cannot write {self.path} ({reason}); set run_root=DIR")

    def record_end(self, why: str, failed: bool) -> None:
        """Record in `starts.json` why this start ended, unless the run is finished. Best effort."""
        starts = self.starts()
        if starts and not self.finished:
            with suppress(OSError):
                end = {"why": why, "failed": failed, "time": time.time()}
                write_json(self.path / STARTS_FILE, [*starts[:-1], starts[-1] | {"ended": end}])

    def continued(self, config: Config) -> Config:
        """`config` with the attack of the run that was begun here.

        Versions without `eval.attack_name` counted the last iterate. A run that they began keeps to it: its best
        checkpoint is not chosen by scores under two attacks.
        """
        if not self._has_config():
            return config
        name = self._read_config_file()["settings"].get("eval.attack_name", EARLIER_ATTACK_NAME)
        check_named_code(self.path / CONFIG_FILE, {"eval.attack_name": name})
        return config if name == config.eval.attack_name else apply_overrides(config, {"eval.attack_name": name})

    def check(self, config: Config) -> None:
        """Check that the directory holds the run of `config`, or no run yet.

        Raises:
            ConfigError: it holds another run, for instance a renamed copy; or the run was trained with another version
                of the user's code.
        """
        if not self._has_config():
            if self.finished:
                self.config()  # says what is wrong with a damaged one
                raise ConfigError(f"{self.path}: finished, but config.json is damaged; {_REMEDY}")
            return
        there = self.config()
        if "eval.attack_name" not in self._read_config_file()["settings"]:
            there = apply_overrides(there, {"eval.attack_name": config.eval.attack_name})  # see `continued`
        changed_settings = differences(there, config)
        if changed_settings:
            path, (other, here) = next(iter(changed_settings.items()))
            more = f" and {len(changed_settings) - 1} more" if len(changed_settings) > 1 else ""
            raise ConfigError(f"{self.path}: holds another run ({path}={other} there, {here} here{more}); {_REMEDY}")
        name = str(self._read_config_file().get("run_id", self.name))
        if self.name not in (name, _NUMBERED.sub("", name)):
            raise ConfigError(f"{self.path}: holds another run (run ID {name}); {_REMEDY}")
        changed = self.changed_source(config)
        if changed:
            raise ConfigError(f"{changed}; fresh=true trains anew")

    def changed_source(self, config: Config) -> str:
        """One line if the user's code has changed since the run was trained; "" if it has not, or is unknown."""
        there, here = self._read_config_file().get("sources") or {}, source_digests(config)
        for kind, digest in here.items():
            if there.get(kind, digest) != digest:
                name = getattr(config, kind).name
                changed = f"{kind}={name}: its source has changed since {self.path} was trained"
                return f"{changed} (digest {there[kind]} there, {digest} here)"
        return ""

    def _acquire(self, lock: IO[str], patience: float) -> None:
        deadline = time.monotonic() + patience
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        except BlockingIOError as error:
            raise ConfigError(f"{self.path}: another process works on this run; wait for it or stop it") from error
        except OSError as error:
            _log.warning("cannot lock %s (%s): make sure that no other process works on this run", self.path, error)

    def _has_config(self) -> bool:
        """Whether `config.json` is there. A damaged one counts as missing: the directory's name is the run ID.

        Raises:
            ConfigError: it is one of a newer distcond.
        """
        file = self.path / CONFIG_FILE
        try:
            content = read_json(file) if file.exists() else None
        except ConfigError:
            content = {}
        if content is None:
            return False
        if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
            _log.warning("%s: damaged; an unfinished run writes it again", file)
            return False
        return True

    def config(self) -> Config:
        """The config that the run was started with.

        Raises:
            ConfigError: no run here, one of a newer distcond, a damaged file, or one that names code of others.
        """
        settings = self._read_config_file()["settings"]
        check_named_code(self.path / CONFIG_FILE, settings)
        return from_settings(settings)

    def _read_config_file(self) -> dict[str, Any]:
        file = self.path / CONFIG_FILE
        if not file.exists():
            raise ConfigError(f"{self.path}: no run here (config.json is missing); name a run directory")
        content = read_json(file)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise ConfigError(f"{file}: schema version {version!r}; this distcond reads version {SCHEMA_VERSION}")
        if not isinstance(content.get("settings"), dict):
            raise ConfigError(f"{file}: has no settings; restore the file that the run wrote")
        return dict[str, Any](content)

    def starts(self) -> list[dict[str, Any]]:
        """One record per start: time, command, commit, versions, and why it ended. Empty if the file is damaged."""
        file = self.path / STARTS_FILE
        try:
            starts = read_json(file) if file.exists() else []
        except ConfigError:
            starts = None
        if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
            _log.warning("%s: damaged; earlier starts are unknown, and the next one writes it again", file)
            return []
        return starts


def first_start_id(starts: Any) -> str:
    """`RunDir.start_id`, from the content of `starts.json`; "" if that is damaged."""
    known = isinstance(starts, list) and starts and isinstance(starts[0], dict)
    return str(starts[0].get("id", "")) if known else ""


def run_dir_for(config: Config, data_fingerprint: str) -> RunDir:
    """The directory of a config's run, absolute. With `fresh`, a new one (suffix `-2`, `-3`, ...)."""
    base = run_root(config) / run_id(config, data_fingerprint)
    path, number = base, 2
    while config.fresh and _exists(config, path):
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return RunDir(path)


def working_dir(config: Config, run_path: Path) -> Path:
    """This machine's directory of the run: `run_path` of the driver, or for a run at a URI the local copy."""
    if not is_uri(config.run_root):
        return run_path
    own = run_root(config) / run_path.name
    own.mkdir(parents=True, exist_ok=True)
    return own


def _exists(config: Config, path: Path) -> bool:
    if path.exists() or not is_uri(config.run_root):
        return path.exists()
    try:
        return bool(open_store(child_uri(config.run_root, path.name)).names())
    except OSError as error:
        raise as_config_error(error) from error


def run_root(config: Config) -> Path:
    """`config.run_root` as an absolute path; for a URI, the local directory that mirrors it.

    Default: ./runs, or ~/distcond/runs in a working directory that Ray shipped to a job.
    """
    if is_uri(config.run_root):
        return staging(config.run_root, config.data.cache_dir)
    if config.run_root:
        return Path(config.run_root).expanduser().absolute()
    shipped = any(part.startswith("_ray_pkg_") for part in Path.cwd().parts)
    return Path.home() / "distcond" / "runs" if shipped else Path.cwd() / "runs"

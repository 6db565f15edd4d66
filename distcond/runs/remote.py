"""RemoteRun: a run at a URI, which works in a local directory and starts from its latest complete remote checkpoint.

    <run>/checkpoints/epoch-0012/complete.json   uploaded last; a remote checkpoint without it does not exist

Rows and history are uploaded before the checkpoint that follows them, and `finished.json` after everything else.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from distcond.atomic_io import atomic_write_text, file_lock
from distcond.config.schema import Config
from distcond.run_layout import (
    ATTEMPT_FILE,
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    FINISHED_FILE,
    PROGRESS_FILE,
    STARTS_FILE,
    STOP_FILE,
)
from distcond.runs.checkpoint import CheckpointStep, is_checkpoint_name, latest, step_of
from distcond.storage.errors import as_config_error
from distcond.storage.mirror import Mirror, files_if_complete, retry
from distcond.storage.store import Stat, Store
from distcond.storage.uri import child_uri, is_uri, open_store

T = TypeVar("T")

#: Small files that change while a run is in progress.
LIVE_FILES = (CONFIG_FILE, STARTS_FILE, ATTEMPT_FILE, PROGRESS_FILE)

#: Never uploaded: requests to stop, which come from elsewhere, and what W&B uploads itself.
_EXCLUDED = (STOP_FILE, "wandb/")


@dataclass(frozen=True)
class RemoteRun:
    """One run at a URI, and the local directory that mirrors it."""

    uri: str
    local: Path

    @cached_property
    def store(self) -> Store:
        """The store of the run's URI."""
        return open_store(self.uri)

    def pull(self, live: bool = True) -> list[CheckpointStep]:
        """Download what is newer at the URI. Safe to call from several processes at once.

        Args:
            live: whether to overwrite local copies of the files that change all the time (`LIVE_FILES`).

        Returns:
            The complete remote checkpoints.

        Raises:
            ConfigError: the URI cannot be read.
        """
        return self._locked_with_retries(lambda: self._pull(live))

    def pull_missing_parts(self) -> None:
        """Download the parts of complete checkpoints that ranks on other machines have uploaded.

        Raises:
            ConfigError: the URI cannot be read.
        """
        self._locked_with_retries(lambda: self.fetch_checkpoints(self.complete_checkpoints()))

    def publish_start(self) -> None:
        """Upload what workers on other machines need of a new start, and clear any request to stop.

        Raises:
            ConfigError: the URI cannot be written.
        """
        try:
            self._upload_start()
            self.store.put_bytes(b"", STOP_FILE)
        except OSError as error:
            raise as_config_error(error) from error

    def push_final(self) -> None:
        """Upload what the driver and its workers wrote last. Best effort: the next start uploads the rest."""
        with suppress(OSError):
            mirror = Mirror(self.local, self.store)
            mirror.push(mirror.files(is_record_file), pauses=(0.0,))
            self._upload_start()

    def read_text(self, name: str) -> str:
        """The content of a small remote file; "" if there is none.

        Raises:
            ConfigError: the URI cannot be read.
        """
        return self._locked_with_retries(lambda: self.store.read(name).decode() if self.store.exists(name) else "")

    def upload(self, name: str) -> None:
        """Upload one file of the local directory.

        Raises:
            ConfigError: the URI cannot be written.
        """
        self._locked_with_retries(lambda: self.store.put(self.local / name, name))

    def complete_checkpoints(self, held: dict[str, Stat] | None = None) -> dict[str, list[str]]:
        """The complete remote checkpoints: folder to the names of its files. `held` is a listing, if known."""
        held = self.store.names() if held is None else held
        folders = sorted({name.rpartition("/")[0] for name in held if name.startswith(f"{CHECKPOINTS_DIR}/")})
        checkpoints = {
            folder: files_if_complete(self.store, held, folder)
            for folder in folders
            if is_checkpoint_name(Path(folder).name)
        }
        return {folder: names for folder, names in checkpoints.items() if names}

    def fetch_checkpoints(self, checkpoints: dict[str, list[str]]) -> None:
        """Download the checkpoints that are not here; each appears atomically."""
        for folder, names in checkpoints.items():
            final, partial = self.local / folder, self.local / CHECKPOINTS_DIR / f".{Path(folder).name}"
            if all((self.local / name).is_file() for name in names):
                continue
            shutil.rmtree(partial, ignore_errors=True)
            for name in names:
                self.store.get(name, partial / Path(name).name)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(partial, final)

    def _upload_start(self) -> None:
        # Not the other live files: workers upload those, and the local copies may be older.
        for name in (CONFIG_FILE, STARTS_FILE):
            if (self.local / name).exists():
                self.store.put(self.local / name, name)

    def _locked_with_retries(self, work: Callable[[], T]) -> T:
        try:
            with file_lock(pull_lock(self.local)):
                return retry(work)
        except OSError as error:
            raise as_config_error(error) from error

    def _pull(self, live: bool) -> list[CheckpointStep]:
        held, mirror = self.store.names(), Mirror(self.local, self.store)
        mirror.forget(set(mirror.remembered()) - set(held))
        complete = self.complete_checkpoints(held)
        steps = [step_of(Path(folder)) for folder in complete]
        remote_is_ahead = (FINISHED_FILE in held, max(steps, default=CheckpointStep(-1))) > self._local_state()
        kept = () if live else LIVE_FILES
        others = [name for name in held if is_record_file(name) or (name in LIVE_FILES and name not in kept)]
        mirror.pull(held, others, overwrite=remote_is_ahead)
        mirror.pull(held, [name for name in kept if name in held], overwrite=False)
        if FINISHED_FILE in held:
            mirror.pull(held, [FINISHED_FILE], overwrite=remote_is_ahead)
            return steps
        # The remote decides whether the run is finished: a store that lost the mark gets it again.
        (self.local / FINISHED_FILE).unlink(missing_ok=True)
        # Also the local checkpoint: in a run over several machines it has only the parts of this machine's workers.
        _, own = self._local_state()
        self.fetch_checkpoints({folder: names for folder, names in complete.items() if step_of(Path(folder)) >= own})
        return steps

    def _local_state(self) -> tuple[bool, CheckpointStep]:
        """Whether the local run is finished, and its latest checkpoint."""
        last = latest(self.local / CHECKPOINTS_DIR)
        return (self.local / FINISHED_FILE).exists(), step_of(last) if last is not None else CheckpointStep(-1)


def pull_lock(local: Path) -> Path:
    """The lock file of a local directory that is being pulled."""
    return local.with_name(f".{local.name}.arrival")


def is_record_file(name: str) -> bool:
    """Whether a file of a run is mirrored as it is: no checkpoint, no live file, not `finished.json`."""
    return not name.startswith((f"{CHECKPOINTS_DIR}/", *_EXCLUDED)) and name not in (*LIVE_FILES, FINISHED_FILE)


def remote_run_of(config: Config, run_path: Path) -> RemoteRun | None:
    """The run at its URI; None if `run_root` is a path."""
    return RemoteRun(child_uri(config.run_root, run_path.name), run_path) if is_uri(config.run_root) else None


#: Seconds between two rounds of the background sync.
INTERVAL = 5.0

#: Seconds to wait for the last round.
PATIENCE = 20.0


class BackgroundSync(threading.Thread):
    """Uploads changed progress files every few seconds (best effort) and downloads requests to stop."""

    def __init__(self, remote: RemoteRun) -> None:
        super().__init__(name="background-sync", daemon=True)
        self.remote, self.over = remote, threading.Event()
        self._uploaded: dict[str, int] = {}

    def run(self) -> None:
        """Sync until `close`, and once more then."""
        while not self.over.wait(INTERVAL):
            self._sync()
        self._sync()

    def close(self) -> None:
        """Sync a last time, and wait for it up to `PATIENCE` seconds."""
        self.over.set()
        if self.is_alive():
            self.join(PATIENCE)

    def _sync(self) -> None:
        with suppress(OSError):
            request = self.remote.store.read(STOP_FILE).decode()
            if request:
                atomic_write_text(self.remote.local / STOP_FILE, request)
        for name in LIVE_FILES:
            with suppress(OSError):
                file = self.remote.local / name
                changed = file.stat().st_mtime_ns
                if self._uploaded.get(name) != changed:
                    self.remote.store.put(file, name)
                    self._uploaded[name] = changed

"""RemoteRun: a run at a URI works in a local directory and starts from its latest complete remote checkpoint.

    <run>/checkpoints/epoch-0012/complete.json   put last; a checkpoint without it does not exist

Rows and history are put before the checkpoint that says they are done, `finished.json` after everything else.
A thread uploads progress files every few seconds (best effort) and polls for stop requests.
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


#: Small files that change while a run goes on, whatever it does.
LIVE_FILES = (CONFIG_FILE, STARTS_FILE, ATTEMPT_FILE, PROGRESS_FILE)


#: Never put as it is: the above, and what W&B sends by itself.
_OWN = (STOP_FILE, "wandb/")


@dataclass(frozen=True)
class RemoteRun:
    """One run at a URI, and the directory that stands for it here."""

    uri: str
    local: Path

    @cached_property
    def store(self) -> Store:
        """The run's own place there."""
        return open_store(self.uri)

    def pull(self, live: bool = True) -> list[CheckpointStep]:
        """Fetch what is newer there. Any number of processes may do so at once.

        Args:
            live: whether the small files that change all the time are fetched, too, where they are there and here.

        Returns:
            Of which moments there are whole checkpoints there.

        Raises:
            ConfigError: it cannot be read.
        """
        return self._locked_with_retries(lambda: self._pull(live))

    def pull_missing_parts(self) -> None:
        """Fetch the parts of whole checkpoints that ranks of other machines have put.

        Raises:
            ConfigError: as `arrive`.
        """
        self._locked_with_retries(lambda: self.fetch_checkpoints(self.whole()))

    def publish_start(self) -> None:
        """Put what workers on other machines need to know of a run that begins; nobody asks it to stop any more.

        Raises:
            ConfigError: it cannot be put.
        """
        try:
            self._put_start()
            self.store.put_bytes(b"", STOP_FILE)
        except OSError as error:
            raise as_config_error(error) from error

    def text(self, name: str) -> str:
        """What a small file there holds; "" if there is none.

        Raises:
            ConfigError: as `arrive`.
        """
        return self._locked_with_retries(lambda: self.store.read(name).decode() if self.store.exists(name) else "")

    def put(self, name: str) -> None:
        """Put one file of this machine's directory.

        Raises:
            ConfigError: it cannot be put.
        """
        self._locked_with_retries(lambda: self.store.put(self.local / name, name))

    def push_final(self) -> None:
        """Send what the driver and its workers have written last; without success that is for the next start to do."""
        with suppress(OSError):
            mirror = Mirror(self.local, self.store)
            mirror.push(mirror.files(is_record_file), pauses=(0.0,))
            self._put_start()

    def _put_start(self) -> None:
        # What workers write is theirs to put: here may lie an older one.
        for name in (CONFIG_FILE, STARTS_FILE):
            if (self.local / name).exists():
                self.store.put(self.local / name, name)

    def whole(self, held: dict[str, Stat] | None = None) -> dict[str, list[str]]:
        """The checkpoints that are whole there: folder to the names of its files."""
        held = self.store.names() if held is None else held
        folders = sorted({name.rpartition("/")[0] for name in held if name.startswith(f"{CHECKPOINTS_DIR}/")})
        found = {
            folder: files_if_complete(self.store, held, folder)
            for folder in folders
            if is_checkpoint_name(Path(folder).name)
        }
        return {folder: names for folder, names in found.items() if names}

    def fetch_checkpoints(self, whole: dict[str, list[str]]) -> None:
        """Bring those checkpoints here that are not; each appears at once."""
        for folder, names in whole.items():
            final, aside = self.local / folder, self.local / CHECKPOINTS_DIR / f".{Path(folder).name}"
            if all((self.local / name).is_file() for name in names):
                continue
            shutil.rmtree(aside, ignore_errors=True)
            for name in names:
                self.store.get(name, aside / Path(name).name)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(aside, final)

    def _locked_with_retries(self, work: Callable[[], T]) -> T:
        try:
            with file_lock(self.local.with_name(f".{self.local.name}.arrival")):
                return retry(work)
        except OSError as error:
            raise as_config_error(error) from error

    def _pull(self, live: bool) -> list[CheckpointStep]:
        held, mirror = self.store.names(), Mirror(self.local, self.store)
        mirror.forget(set(mirror.remembered()) - set(held))
        whole = self.whole(held)
        moments = [step_of(Path(folder)) for folder in whole]
        ahead = (FINISHED_FILE in held, max(moments, default=CheckpointStep(-1))) > self._standing()
        kept = () if live else LIVE_FILES
        others = [name for name in held if is_record_file(name) or (name in LIVE_FILES and name not in kept)]
        mirror.pull(held, others, overwrite=ahead)
        mirror.pull(held, [name for name in kept if name in held], overwrite=False)
        if FINISHED_FILE in held:
            mirror.pull(held, [FINISHED_FILE], overwrite=ahead)
            return moments
        # Finished is what is finished there: a store that lost it gets it again.
        (self.local / FINISHED_FILE).unlink(missing_ok=True)
        # Also the one that is here: of a run on several machines this one has only its own workers' parts.
        own = self._standing()[1]
        self.fetch_checkpoints({folder: names for folder, names in whole.items() if step_of(Path(folder)) >= own})
        return moments

    def _standing(self) -> tuple[bool, CheckpointStep]:
        last = latest(self.local / CHECKPOINTS_DIR)
        return (self.local / FINISHED_FILE).exists(), step_of(last) if last is not None else CheckpointStep(-1)


def is_record_file(name: str) -> bool:
    """Whether a file of a run is put as it is: not of a checkpoint, not live, not the mark of the end."""
    return not name.startswith((f"{CHECKPOINTS_DIR}/", *_OWN)) and name not in (*LIVE_FILES, FINISHED_FILE)


def remote_run_of(config: Config, run_path: Path) -> RemoteRun | None:
    """Where a run's home is, if that is a URI."""
    return RemoteRun(child_uri(config.run_root, run_path.name), run_path) if is_uri(config.run_root) else None


#: Seconds between two looks.
INTERVAL = 5.0

#: Seconds that the last words may take.
PATIENCE = 20.0


class BackgroundSync(threading.Thread):
    """Puts what has changed. It keeps no process alive and tells nobody of failures: the next beat tries again."""

    def __init__(self, home: RemoteRun) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.home, self.over = home, threading.Event()
        self._put: dict[str, int] = {}

    def run(self) -> None:
        """Until the run is over, and once more then."""
        while not self.over.wait(INTERVAL):
            self._beat()
        self._beat()

    def close(self) -> None:
        """Say the last word; it is not waited for much."""
        self.over.set()
        if self.is_alive():
            self.join(PATIENCE)

    def _beat(self) -> None:
        with suppress(OSError):
            wish = self.home.store.read(STOP_FILE).decode()
            if wish:
                atomic_write_text(self.home.local / STOP_FILE, wish)
        for name in LIVE_FILES:
            with suppress(OSError):
                file = self.home.local / name
                changed = file.stat().st_mtime_ns
                if self._put.get(name) != changed:
                    self.home.store.put(file, name)
                    self._put[name] = changed

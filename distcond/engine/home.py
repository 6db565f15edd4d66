"""A run whose home is a URI: it works in a directory of this machine, and its newest whole state comes from there.

    <run>/checkpoints/epoch-0012/complete.json   put last; a checkpoint without it does not exist

Rows and history are put before the checkpoint that says they are done, `finished.json` after everything else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from distcond.aside import locked
from distcond.config.schema import Config
from distcond.engine.checkpoint import Moment, is_name, moment_of, newest
from distcond.storage.bundle import sealed
from distcond.storage.mirror import Mirror, patiently
from distcond.storage.refusal import refused
from distcond.storage.store import Stat, Store
from distcond.storage.uri import child, is_uri, open_store

T = TypeVar("T")

CHECKPOINTS, FINISHED = "checkpoints", "finished.json"

#: Small files that change while a run goes on, whatever it does.
LIVE = ("config.json", "starts.json", "attempt.json", "progress.json")

#: By this file a driver tells its workers to stop; there, it is empty while nobody asks.
STOP = "stop.txt"

#: Never put as it is: the above, and what W&B sends by itself.
_OWN = (STOP, "wandb/")


@dataclass(frozen=True)
class Home:
    """One run at a URI, and the directory that stands for it here."""

    uri: str
    local: Path

    @cached_property
    def store(self) -> Store:
        """The run's own place there."""
        return open_store(self.uri)

    def arrive(self, live: bool = True) -> list[Moment]:
        """Fetch what is newer there. Any number of processes may do so at once.

        Args:
            live: whether the small files that change all the time are fetched, too, where they are there and here.

        Returns:
            Of which moments there are whole checkpoints there.

        Raises:
            ConfigError: it cannot be read.
        """
        return self._alone(lambda: self._arrive(live))

    def complete(self) -> None:
        """Fetch the parts of whole checkpoints that ranks of other machines have put.

        Raises:
            ConfigError: as `arrive`.
        """
        self._alone(lambda: self.fetch_checkpoints(self.whole()))

    def announce(self) -> None:
        """Put what workers on other machines need to know of a run that begins; nobody asks it to stop any more.

        Raises:
            ConfigError: it cannot be put.
        """
        try:
            self._put_start()
            self.store.put_bytes(b"", STOP)
        except OSError as error:
            raise refused(error) from error

    def text(self, name: str) -> str:
        """What a small file there holds; "" if there is none.

        Raises:
            ConfigError: as `arrive`.
        """
        return self._alone(lambda: self.store.read(name).decode() if self.store.exists(name) else "")

    def put(self, name: str) -> None:
        """Put one file of this machine's directory.

        Raises:
            ConfigError: it cannot be put.
        """
        self._alone(lambda: self.store.put(self.local / name, name))

    def leave(self) -> None:
        """Send what the driver and its workers have written last; without success that is for the next start to do."""
        with suppress(OSError):
            mirror = Mirror(self.local, self.store)
            mirror.push(mirror.files(is_record), pauses=(0.0,))
            self._put_start()

    def _put_start(self) -> None:
        # What workers write is theirs to put: here may lie an older one.
        for name in ("config.json", "starts.json"):
            if (self.local / name).exists():
                self.store.put(self.local / name, name)

    def whole(self, held: dict[str, Stat] | None = None) -> dict[str, list[str]]:
        """The checkpoints that are whole there: folder to the names of its files."""
        held = self.store.names() if held is None else held
        folders = sorted({name.rpartition("/")[0] for name in held if name.startswith(f"{CHECKPOINTS}/")})
        found = {folder: sealed(self.store, held, folder) for folder in folders if is_name(Path(folder).name)}
        return {folder: names for folder, names in found.items() if names}

    def fetch_checkpoints(self, whole: dict[str, list[str]]) -> None:
        """Bring those checkpoints here that are not; each appears at once."""
        for folder, names in whole.items():
            final, aside = self.local / folder, self.local / CHECKPOINTS / f".{Path(folder).name}"
            if all((self.local / name).is_file() for name in names):
                continue
            shutil.rmtree(aside, ignore_errors=True)
            for name in names:
                self.store.get(name, aside / Path(name).name)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(aside, final)

    def _alone(self, work: Callable[[], T]) -> T:
        try:
            with locked(self.local.with_name(f".{self.local.name}.arrival")):
                return patiently(work)
        except OSError as error:
            raise refused(error) from error

    def _arrive(self, live: bool) -> list[Moment]:
        held, mirror = self.store.names(), Mirror(self.local, self.store)
        mirror.forget(set(mirror.remembered()) - set(held))
        whole = self.whole(held)
        moments = [moment_of(Path(folder)) for folder in whole]
        ahead = (FINISHED in held, max(moments, default=Moment(-1))) > self._standing()
        kept = () if live else LIVE
        others = [name for name in held if is_record(name) or (name in LIVE and name not in kept)]
        mirror.pull(held, others, overwrite=ahead)
        mirror.pull(held, [name for name in kept if name in held], overwrite=False)
        if FINISHED in held:
            mirror.pull(held, [FINISHED], overwrite=ahead)
            return moments
        # Finished is what is finished there: a store that lost it gets it again.
        (self.local / FINISHED).unlink(missing_ok=True)
        # Also the one that is here: of a run on several machines this one has only its own workers' parts.
        own = self._standing()[1]
        self.fetch_checkpoints({folder: names for folder, names in whole.items() if moment_of(Path(folder)) >= own})
        return moments

    def _standing(self) -> tuple[bool, Moment]:
        last = newest(self.local / CHECKPOINTS)
        return (self.local / FINISHED).exists(), moment_of(last) if last is not None else Moment(-1)


def is_record(name: str) -> bool:
    """Whether a file of a run is put as it is: not of a checkpoint, not live, not the mark of the end."""
    return not name.startswith((f"{CHECKPOINTS}/", *_OWN)) and name not in (*LIVE, FINISHED)


def home_of(config: Config, run_path: Path) -> Home | None:
    """Where a run's home is, if that is a URI."""
    return Home(child(config.run_root, run_path.name), run_path) if is_uri(config.run_root) else None

"""Uploads a run while it trains, in an order that makes a kill at any moment harmless.

A store that does not answer stops nothing: training continues and logs it. The end of the run waits for the store,
within bounds, and the run is not finished if something could not be sent. A slow rank is not taken for dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from distcond.atomic_io import atomic_write_text
from distcond.distributed.world import World, run_with_keepalive
from distcond.errors import ConfigError
from distcond.reporting.run_report import write_report
from distcond.run_layout import CHECKPOINTS_DIR, COMPLETE_FILE, FINISHED_FILE, HISTORY_FILE, SHARED_FILE, rank_file
from distcond.runs.checkpoint import CheckpointStep, checkpoint_steps
from distcond.runs.remote import BackgroundSync, RemoteRun, is_record_file
from distcond.storage.errors import StorageError
from distcond.storage.mirror import PAUSES, Mirror, mark_complete, remove_folder, retry

#: Checkpoints that are told of to other ranks, and more steps than an epoch has.
_MOST, _STEPS = 8, 1e9

#: Seconds that one piece of work may take with which ranks wait for a store. What does not answer at all, as a dead
#: network file system, would have them wait for ever.
SYNC_TIMEOUT = 3600.0

_ANOTHER = "another worker could not send its part"

#: Seconds to wait before each try once one has failed, and at the end of the run.
ONCE, AT_LAST = (0.0,), (0.0, 2.0, 5.0, 15.0, 30.0)


class RunUploader:
    """One rank's part in it. All but `close` is collective."""

    def __init__(self, home: RemoteRun, world: World) -> None:
        self.home, self.world = home, world
        self.mirror = Mirror(home.local, home.store)
        self.wanted: set[str] = set()  # checkpoints that have to be there
        self.sealed: set[str] = set()  # those that are, as every rank knows
        self.fresh: set[str] = set()  # those made by these ranks
        self.trouble = ""  # why the store lags behind
        self.heartbeat = BackgroundSync(home) if world.first else None

    def begin(self) -> None:
        """Before anything is resumed: all ranks stand at the same checkpoint, wherever they are.

        Raises:
            ConfigError: the home cannot be read, or holds a checkpoint that not every machine could fetch.
        """
        there = run_with_keepalive(self.world, lambda: self.home.pull(live=False), SYNC_TIMEOUT)
        here = checkpoint_steps(self.home.local / CHECKPOINTS_DIR)
        last = _number(here[-1]) if here else -1.0
        if last > -self.world.all_reduce_max([-last])[0]:
            raise ConfigError(
                f"{self.home.local}: holds a later checkpoint than {self.home.uri} and other machines of the run; "
                "start it on this machine alone once, or delete the directory"
            )
        self.wanted = self._agreed(here if self.world.first else [])
        self.sealed = self._agreed(there if self.world.first else []) & self.wanted
        if self.heartbeat is not None:
            self.heartbeat.start()

    def _agreed(self, moments: list[CheckpointStep]) -> set[str]:
        """The names of rank 0's moments, on every rank; the latest ones, if there are many."""
        numbers = sorted(map(_number, moments))[-_MOST:]
        told = self.world.all_reduce_max([*numbers, *[-1.0] * (_MOST - len(numbers))])
        return {_moment(number).name for number in told if number >= 0}

    def recorded(self) -> None:
        """After an epoch without a checkpoint: rows and history."""
        self._everywhere(self._records, self._pauses())

    def saved(self, names: set[str]) -> None:
        """After a checkpoint; those of `names` are kept."""
        self.fresh |= names - self.wanted
        self.wanted = names
        self._send(self._pauses())

    def pull_missing_parts(self) -> None:
        """Before checkpoints are read back: fetch what the ranks of other machines have added to them.

        Raises:
            StorageError: not everything could be sent, so nobody has them whole.
        """
        if self.world.size == 1:
            return
        if not self._send(AT_LAST):
            raise self._unsent()
        run_with_keepalive(self.world, self.home.pull_missing_parts, SYNC_TIMEOUT)

    def finish(self, mark: str) -> None:
        """Send everything, then `mark` as the content of the file that says so; rank 0 then writes that here, too.

        Raises:
            StorageError: not everything could be sent.
        """
        if self.world.first:
            with suppress(Exception):  # a run is no less over; who began it draws again and says what is wrong
                write_report(self.home.local)
        if not (self._send(AT_LAST) and self._everywhere(lambda: self._mark(mark), AT_LAST)):
            raise self._unsent()
        if self.world.first:
            atomic_write_text(self.home.local / FINISHED_FILE, mark)

    def _unsent(self) -> StorageError:
        return StorageError(f"everything is in {self.home.local}, and the same command sends it; {self.trouble}")

    def close(self) -> None:
        """No more words about how far the run is, but the last."""
        if self.heartbeat is not None:
            self.heartbeat.close()

    @property
    def note(self) -> str:
        """What to say of it while the run goes on; empty if all is well."""
        return f"storage: {self.trouble}; the run goes on, the rest is sent later" if self.trouble else ""

    def _send(self, pauses: Iterable[float]) -> bool:
        """Rows and history, then every rank's parts, then the markers; whether that went well on every rank."""
        pending = sorted(self.wanted - self.sealed)
        works = (lambda: self._put(pending), lambda: self._seal(pending))
        if not all(self._everywhere(work, pauses) for work in works):
            return False
        self.sealed, self.trouble = set(self.wanted), ""
        return True

    def _records(self) -> None:
        if self.world.first:
            # The history last: a record says that its rows are there.
            self.mirror.push(sorted(self.mirror.files(is_record_file), key=lambda name: name == HISTORY_FILE), ONCE)

    def _mark(self, mark: str) -> None:
        if self.world.first:
            self.home.store.put_bytes(mark.encode(), FINISHED_FILE)

    def _put(self, names: Iterable[str]) -> None:
        """Records, and this rank's files of some checkpoints; all that are here of one made by other ranks."""
        self._records()
        mine = {rank_file(self.world.rank), *((SHARED_FILE,) if self.world.first else ())}
        for name in names:
            for file in sorted((self.home.local / CHECKPOINTS_DIR / name).glob("*.pt")):
                if name not in self.fresh or file.name in mine:
                    self.home.store.put(file, f"{CHECKPOINTS_DIR}/{name}/{file.name}")

    def _seal(self, names: Iterable[str]) -> None:
        """Mark checkpoints as whole, then remove all others."""
        if not self.world.first:
            return
        store = self.home.store
        for name in names:
            folder = f"{CHECKPOINTS_DIR}/{name}"
            parts = {rank_file(rank) for rank in range(self.world.size)} | {SHARED_FILE}
            put = {Path(file).name for file in store.names(folder)} - {COMPLETE_FILE}
            mark_complete(store, folder, parts if name in self.fresh else put)
        held = {name.split("/")[1] for name in store.names(CHECKPOINTS_DIR)}
        for name in sorted(held - self.wanted):
            remove_folder(store, f"{CHECKPOINTS_DIR}/{name}")

    def _everywhere(self, work: Callable[[], None], pauses: Iterable[float]) -> bool:
        """Whether the work of every rank went well."""
        good = run_with_keepalive(self.world, lambda: self._tried(work, pauses), SYNC_TIMEOUT)
        if self.world.all_reduce_max([float(not good)])[0]:
            self.trouble = self.trouble or _ANOTHER
            return False
        return True

    def _tried(self, work: Callable[[], None], pauses: Iterable[float]) -> bool:
        try:
            retry(work, pauses)
        except OSError as error:
            self.trouble = str(error)
            return False
        return True

    def _pauses(self) -> Iterable[float]:
        # A store that did not answer is not waited for at every epoch.
        return ONCE if self.trouble else PAUSES


def _number(moment: CheckpointStep) -> float:
    """Rises with the moment; what ranks can compare and tell each other."""
    return moment.epoch * _STEPS + moment.step


def _moment(number: float) -> CheckpointStep:
    return CheckpointStep(int(number // _STEPS), int(number % _STEPS))

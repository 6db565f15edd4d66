"""RunUploader: uploads a run while it trains, in an order that makes a kill at any moment harmless.

A store that does not answer stops nothing: training continues and logs it. The end of the run waits for the store,
within bounds, and the run is not finished if something could not be uploaded. A slow rank is not given up.
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

#: Checkpoints that ranks agree on at most, and an upper bound on the steps of an epoch.
_MAX_CHECKPOINTS, _MAX_STEPS = 256, 1e9

#: Seconds that ranks wait together for one piece of storage work. Without a limit, a store that hangs, such as a dead
#: network file system, would block them forever.
SYNC_TIMEOUT = 3600.0

_OTHER_RANK_FAILED = "another worker could not upload its part"

#: Seconds to wait before each try: after an earlier failure, and at the end of the run.
ONCE, AT_END = (0.0,), (0.0, 2.0, 5.0, 15.0, 30.0)


class RunUploader:
    """One rank's part of the upload. All methods but `close` are collective.

    Attributes:
        required: names of the checkpoints that have to be at the URI.
        sealed: those that are complete there, as every rank knows.
        written: those written by these ranks, rather than before their start.
        trouble: why the store lags behind; "" if it does not.
    """

    def __init__(self, remote: RemoteRun, world: World) -> None:
        self.remote, self.world = remote, world
        self.mirror = Mirror(remote.local, remote.store)
        self.required, self.sealed, self.written = set[str](), set[str](), set[str]()
        self.trouble = ""
        self.sync = BackgroundSync(remote) if world.first else None

    def start(self) -> None:
        """Pull the run, agree on its checkpoints, and start the background sync. Call before anything is resumed.

        Raises:
            ConfigError: the URI cannot be read, or a machine has a later checkpoint than the others.
        """
        remote_steps = run_with_keepalive(self.world, lambda: self.remote.pull(live=False), SYNC_TIMEOUT)
        local_steps = checkpoint_steps(self.remote.local / CHECKPOINTS_DIR)
        last = _encode_step(local_steps[-1]) if local_steps else -1.0
        if last > -self.world.all_reduce_max([-last])[0]:
            raise ConfigError(
                f"{self.remote.local}: has a later checkpoint than {self.remote.uri} and other machines of the run; "
                "start the run once on this machine alone, or delete the directory"
            )
        self.required = self._broadcast_names(local_steps)
        self.sealed = self._broadcast_names(remote_steps) & self.required
        if self.sync is not None:
            self.sync.start()

    def upload_records(self) -> None:
        """Upload rows and history, after an epoch without a checkpoint."""
        self._run_on_all_ranks(self._push_records, self._pauses())

    def upload_checkpoints(self, names: set[str]) -> None:
        """Upload the checkpoints `names` after a save, and delete all others at the URI."""
        self.written |= names - self.required
        self.required = names
        self._upload(self._pauses())

    def pull_missing_parts(self) -> None:
        """Download the checkpoint parts of ranks on other machines. Call before checkpoints are read back.

        Raises:
            StorageError: not everything could be uploaded, so no machine has all parts.
        """
        if self.world.size == 1:
            return
        if not self._upload(AT_END):
            raise self._upload_failed()
        run_with_keepalive(self.world, self.remote.pull_missing_parts, SYNC_TIMEOUT)

    def finish(self, summary: str) -> None:
        """Upload everything, then `summary` as `finished.json`, which rank 0 then writes locally, too.

        Raises:
            StorageError: not everything could be uploaded.
        """
        if self.world.first:
            with suppress(Exception):  # the run is finished anyway; the driver writes the report again and raises
                write_report(self.remote.local)
        if not (self._upload(AT_END) and self._run_on_all_ranks(lambda: self._put_summary(summary), AT_END)):
            raise self._upload_failed()
        if self.world.first:
            atomic_write_text(self.remote.local / FINISHED_FILE, summary)

    def close(self) -> None:
        """Upload the last progress and stop the background sync."""
        if self.sync is not None:
            self.sync.close()

    @property
    def note(self) -> str:
        """A warning for the progress display; "" if the store is up to date."""
        return f"storage: {self.trouble}; training continues, the rest is uploaded later" if self.trouble else ""

    def _broadcast_names(self, steps: list[CheckpointStep]) -> set[str]:
        """The names of rank 0's checkpoints, on every rank; the latest `_MAX_CHECKPOINTS` of them."""
        codes = sorted(map(_encode_step, steps))[-_MAX_CHECKPOINTS:] if self.world.first else []
        agreed = self.world.all_reduce_max([*codes, *[-1.0] * (_MAX_CHECKPOINTS - len(codes))])
        return {_decode_step(code).name for code in agreed if code >= 0}

    def _upload(self, pauses: Iterable[float]) -> bool:
        """Upload rows and history, then every rank's parts, then the markers; True if all ranks succeeded."""
        pending = sorted(self.required - self.sealed)
        stages = (lambda: self._push_parts(pending), lambda: self._seal(pending))
        if not all(self._run_on_all_ranks(stage, pauses) for stage in stages):
            return False
        self.sealed, self.trouble = set(self.required), ""
        return True

    def _push_records(self) -> None:
        if self.world.first:
            # The history last: a record of it implies that its rows are there.
            self.mirror.push(sorted(self.mirror.files(is_record_file), key=lambda name: name == HISTORY_FILE), ONCE)

    def _put_summary(self, summary: str) -> None:
        if self.world.first:
            self.remote.store.put_bytes(summary.encode(), FINISHED_FILE)

    def _push_parts(self, names: Iterable[str]) -> None:
        """Records, and this rank's files of the checkpoints; all local files of one written before this start."""
        self._push_records()
        own = {rank_file(self.world.rank), *((SHARED_FILE, HISTORY_FILE) if self.world.first else ())}
        for name in names:
            folder = self.remote.local / CHECKPOINTS_DIR / name
            for file in sorted([*folder.glob("*.pt"), *folder.glob(HISTORY_FILE)]):
                if name not in self.written or file.name in own:
                    self.remote.store.put(file, f"{CHECKPOINTS_DIR}/{name}/{file.name}")

    def _seal(self, names: Iterable[str]) -> None:
        """Mark checkpoints as complete, then remove all others."""
        if not self.world.first:
            return
        store = self.remote.store
        for name in names:
            folder = f"{CHECKPOINTS_DIR}/{name}"
            parts = {rank_file(rank) for rank in range(self.world.size)} | {SHARED_FILE}
            parts |= {HISTORY_FILE} if (self.remote.local / folder / HISTORY_FILE).exists() else set()
            uploaded = {Path(file).name for file in store.names(folder)} - {COMPLETE_FILE}
            mark_complete(store, folder, parts if name in self.written else uploaded)
        held = {name.split("/")[1] for name in store.names(CHECKPOINTS_DIR)}
        for name in sorted(held - self.required):
            remove_folder(store, f"{CHECKPOINTS_DIR}/{name}")

    def _run_on_all_ranks(self, work: Callable[[], None], pauses: Iterable[float]) -> bool:
        """Run storage work on every rank; True if it succeeded on all."""
        succeeded = run_with_keepalive(self.world, lambda: self._try(work, pauses), SYNC_TIMEOUT)
        if self.world.all_reduce_max([float(not succeeded)])[0]:
            self.trouble = self.trouble or _OTHER_RANK_FAILED
            return False
        return True

    def _try(self, work: Callable[[], None], pauses: Iterable[float]) -> bool:
        try:
            retry(work, pauses)
        except OSError as error:
            self.trouble = str(error)
            return False
        return True

    def _upload_failed(self) -> StorageError:
        return StorageError(f"all files are in {self.remote.local}, the same command uploads them; {self.trouble}")

    def _pauses(self) -> Iterable[float]:
        # After a failure, do not wait for the store at every epoch.
        return ONCE if self.trouble else PAUSES


def _encode_step(step: CheckpointStep) -> float:
    """A number that orders like the step, for reductions over ranks."""
    return step.epoch * _MAX_STEPS + step.step


def _decode_step(code: float) -> CheckpointStep:
    return CheckpointStep(int(code // _MAX_STEPS), int(code % _MAX_STEPS))

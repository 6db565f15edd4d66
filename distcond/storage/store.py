"""Whole files at a place that pyarrow.fs knows. A reader sees the old or the new file, never half of one."""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from distcond.aside import written_aside
from distcond.storage.refusal import refusal, refused

T = TypeVar("T")

#: Seconds after which a store that says nothing counts as unreachable.
SILENCE = 60.0

_CHUNK = 4 * 2**20
#: These show a file when its writer has closed it; elsewhere it is written aside and moved.
_WHOLE = ("s3", "gcs", "abfs")


class StorageError(OSError):
    """A store did not do what it was asked: one line."""


class Stat(NamedTuple):
    """Bytes, and when the file was written as the store sees it, in nanoseconds (0 = unknown)."""

    size: int
    time: int


@dataclass(frozen=True)
class Store:
    """Files by name (`a/b.json`) below `base` on a file system."""

    uri: str
    filesystem: Any
    base: str

    def put(self, local: Path, name: str) -> int:
        """Publish a local file as `name`; the bytes sent.

        Raises:
            StorageError: it is not there now.
        """
        with open(local, "rb") as source:
            self._said(lambda: self._write(name, source))
            return source.tell()

    def put_bytes(self, content: bytes, name: str) -> None:
        """Publish `content` as `name`."""
        import io

        self._said(lambda: self._write(name, io.BytesIO(content)))

    def get(self, name: str, local: Path) -> None:
        """Fetch a file; `local` is whole or as it was.

        Raises:
            StorageError: there is none, or it cannot be read.
        """
        with written_aside(local) as aside, open(aside, "wb") as target:
            self._said(lambda: self._read(name, target))

    def read(self, name: str) -> bytes:
        """The content of a small file."""
        return self._said(lambda: self._bytes(name))

    def names(self, below: str = "") -> dict[str, Stat]:
        """Size and time of all files at and below a folder, by name; hidden ones (`.x`) are left out."""
        found = self._said(lambda: self._listed(below))
        return {name: size for name, size in found.items() if not any(p.startswith(".") for p in name.split("/"))}

    def folders(self) -> list[str]:
        """The names of the folders right below."""
        from pyarrow.fs import FileSelector, FileType

        chosen = FileSelector(self.base, allow_not_found=True)
        infos = self._said(lambda: self.filesystem.get_file_info(chosen))
        return sorted(info.base_name for info in infos if info.type == FileType.Directory)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        from pyarrow.fs import FileType

        return bool(self._said(lambda: self.filesystem.get_file_info(self._at(name))).type == FileType.File)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        self._gone(lambda: self.filesystem.delete_file(self._at(name)), lambda: self.exists(name))

    def delete_below(self, folder: str) -> None:
        """Remove a folder and what is in it."""
        self._gone(lambda: self.filesystem.delete_dir(self._at(folder)), lambda: bool(self.names(folder)))

    def check(self) -> None:
        """Write and remove a few bytes, in bounded time.

        Raises:
            ConfigError: no bucket, no credentials, not writable or not reachable; one line.
        """
        name = f".distcond-{uuid.uuid4().hex[:8]}"
        try:
            within(SILENCE, lambda: self.put_bytes(b"distcond\n", name))
            within(SILENCE, lambda: self.delete(name))
        except OSError as error:
            raise refused(error) from error

    def _at(self, name: str) -> str:
        return f"{self.base}/{name}" if name else self.base

    def _gone(self, remove: Callable[[], None], still_there: Callable[[], bool]) -> None:
        try:
            self._said(remove)
        except OSError:
            # On object stores a removal also puts the folder above back as an object, which some servers refuse.
            if still_there():
                raise

    def _said(self, work: Callable[[], T]) -> T:
        """The result of `work`; what goes wrong in it as one line that names the place."""
        try:
            return work()
        except FileNotFoundError as error:
            if re.search(r"NO_SUCH_BUCKET|bucket does not exist|Bucket '", str(error)):
                raise StorageError(refusal(self.uri, error)) from error
            raise FileNotFoundError(f"{self.uri}: {error}") from error
        except StorageError:
            raise
        except (OSError, ValueError) as error:  # pyarrow's own errors are among these
            raise StorageError(refusal(self.uri, error)) from error

    def _write(self, name: str, source: IO[bytes]) -> None:
        source.seek(0)
        at = self._at(name)
        if self.filesystem.type_name == "local":
            with written_aside(Path(at)) as aside, open(aside, "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            return
        whole = self.filesystem.type_name in _WHOLE
        to = at if whole else f"{at.rpartition('/')[0]}/.{at.rpartition('/')[2]}.{os.getpid()}.tmp"
        if not whole:
            self.filesystem.create_dir(at.rpartition("/")[0], recursive=True)
        try:
            with self.filesystem.open_output_stream(to) as target:
                shutil.copyfileobj(source, target, _CHUNK)
        except Exception:
            # Leaving the block closes the stream, and that may have published the part that was sent.
            with suppress(OSError):
                self.filesystem.delete_file(to)
            raise
        if not whole:
            self.filesystem.move(to, at)

    def _read(self, name: str, target: IO[bytes]) -> None:
        with self.filesystem.open_input_stream(self._at(name)) as source:
            shutil.copyfileobj(source, target, _CHUNK)

    def _bytes(self, name: str) -> bytes:
        with self.filesystem.open_input_stream(self._at(name)) as source:
            content: bytes = source.read()
        return content

    def _listed(self, below: str) -> dict[str, Stat]:
        from pyarrow.fs import FileSelector, FileType

        chosen = FileSelector(self._at(below), recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(chosen)
        cut = len(self.base) + 1
        return {info.path[cut:]: Stat(info.size, info.mtime_ns or 0) for info in infos if info.type == FileType.File}


def within(seconds: float, work: Callable[[], object]) -> None:
    """Do `work`, but wait for it no longer than that.

    Raises:
        StorageError: it has not ended; it is left behind in a thread that keeps no process alive.
    """
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="storage", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise StorageError(f"storage: no answer within {seconds:g} s; see whether the server is up")
    if outcome[0] is not None:
        raise outcome[0]

"""Store: files by name below a URI, on any file system of pyarrow.fs.

Every file is published atomically: a reader sees the old or the new file, never half of one.
"""

from __future__ import annotations

import io
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

from distcond.atomic_io import atomic_write
from distcond.storage.errors import StorageError, as_config_error, describe_storage_error

T = TypeVar("T")

#: Seconds after which a store that does not answer counts as unreachable.
TIMEOUT_SECONDS = 60.0

_CHUNK = 4 * 2**20
#: These show a file once its writer has closed it. Elsewhere it is written under a hidden name, then renamed.
_ATOMIC_FILE_SYSTEMS = ("s3", "gcs", "abfs")


class Stat(NamedTuple):
    """Size in bytes, and modification time by the store's clock in nanoseconds (0 = unknown)."""

    size: int
    time: int


@dataclass(frozen=True)
class Store:
    """Files by name (`a/b.json`) below `base` on a file system of pyarrow."""

    uri: str
    filesystem: Any
    base: str

    def check(self) -> None:
        """Write and delete a few bytes, within `TIMEOUT_SECONDS` each.

        Raises:
            ConfigError: no bucket, no credentials, not writable or not reachable; one line.
        """
        name = f".distcond-{uuid.uuid4().hex[:8]}"
        try:
            call_with_timeout(TIMEOUT_SECONDS, lambda: self.put_bytes(b"distcond\n", name))
            call_with_timeout(TIMEOUT_SECONDS, lambda: self.delete(name))
        except OSError as error:
            raise as_config_error(error) from error

    def put(self, local: Path, name: str) -> int:
        """Publish a local file as `name`. Returns the number of bytes sent.

        Raises:
            StorageError: the file was not published.
        """
        with open(local, "rb") as source:
            self._with_clear_errors(lambda: self._write(name, source))
            return source.tell()

    def put_bytes(self, content: bytes, name: str) -> None:
        """Publish `content` as `name`."""
        self._with_clear_errors(lambda: self._write(name, io.BytesIO(content)))

    def get(self, name: str, local: Path) -> None:
        """Download a file. If that fails, `local` is left as it was.

        Raises:
            FileNotFoundError: there is no file of that name.
            StorageError: it cannot be read.
        """
        with atomic_write(local) as temporary, open(temporary, "wb") as target:
            self._with_clear_errors(lambda: self._read_into(name, target))

    def read(self, name: str) -> bytes:
        """The content of a small file."""
        return self._with_clear_errors(lambda: self._read_bytes(name))

    def names(self, below: str = "") -> dict[str, Stat]:
        """Size and time of all files at and below a folder, by name. Hidden files (`.x`) are left out."""
        files = self._with_clear_errors(lambda: self._list_files(below))
        return {name: stat for name, stat in files.items() if not any(p.startswith(".") for p in name.split("/"))}

    def folders(self) -> list[str]:
        """The names of the folders directly below, sorted."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.base, allow_not_found=True)
        infos = self._with_clear_errors(lambda: self.filesystem.get_file_info(selector))
        return sorted(info.base_name for info in infos if info.type == FileType.Directory)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        from pyarrow.fs import FileType

        info = self._with_clear_errors(lambda: self.filesystem.get_file_info(self._path(name)))
        return bool(info.type == FileType.File)

    def delete(self, name: str) -> None:
        """Delete a file. A missing one is no error."""
        self._delete(lambda: self.filesystem.delete_file(self._path(name)), lambda: self.exists(name))

    def delete_below(self, folder: str) -> None:
        """Delete a folder and everything in it."""
        self._delete(lambda: self.filesystem.delete_dir(self._path(folder)), lambda: bool(self.names(folder)))

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}" if name else self.base

    def _delete(self, delete: Callable[[], None], still_exists: Callable[[], bool]) -> None:
        try:
            self._with_clear_errors(delete)
        except OSError:
            # On object stores a deletion also recreates the parent folder as an object, which some servers refuse.
            if still_exists():
                raise

    def _with_clear_errors(self, operation: Callable[[], T]) -> T:
        """The result of `operation`; its errors become one line that names the place."""
        try:
            return operation()
        except FileNotFoundError as error:
            if re.search(r"NO_SUCH_BUCKET|bucket does not exist|Bucket '", str(error)):
                raise StorageError(describe_storage_error(self.uri, error)) from error
            raise FileNotFoundError(f"{self.uri}: {error}") from error
        except StorageError:
            raise
        except (OSError, ValueError) as error:  # pyarrow's own errors are among these
            raise StorageError(describe_storage_error(self.uri, error)) from error

    def _write(self, name: str, source: IO[bytes]) -> None:
        source.seek(0)
        path = self._path(name)
        if self.filesystem.type_name == "local":
            with atomic_write(Path(path)) as temporary, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
        elif self.filesystem.type_name in _ATOMIC_FILE_SYSTEMS:
            self._upload(path, source)
        else:
            folder, _, file_name = path.rpartition("/")
            hidden = f"{folder}/.{file_name}.{os.getpid()}.tmp"
            self.filesystem.create_dir(folder, recursive=True)
            self._upload(hidden, source)
            self.filesystem.move(hidden, path)

    def _upload(self, path: str, source: IO[bytes]) -> None:
        try:
            with self.filesystem.open_output_stream(path) as target:
                shutil.copyfileobj(source, target, _CHUNK)
        except Exception:
            # Leaving the block closes the stream, which may have published the part that was sent.
            with suppress(OSError):
                self.filesystem.delete_file(path)
            raise

    def _read_into(self, name: str, target: IO[bytes]) -> None:
        with self.filesystem.open_input_stream(self._path(name)) as source:
            shutil.copyfileobj(source, target, _CHUNK)

    def _read_bytes(self, name: str) -> bytes:
        with self.filesystem.open_input_stream(self._path(name)) as source:
            content: bytes = source.read()
        return content

    def _list_files(self, below: str) -> dict[str, Stat]:
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(below), recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        start = len(self.base) + 1
        return {info.path[start:]: Stat(info.size, info.mtime_ns or 0) for info in infos if info.type == FileType.File}


def call_with_timeout(seconds: float, operation: Callable[[], object]) -> None:
    """Call `operation` and wait for it at most so many seconds.

    Raises:
        StorageError: it has not returned. It is left in a daemon thread.
    """
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            operation()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="storage", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise StorageError(f"storage: no answer within {seconds:g} s; check that the server is up")
    if outcome[0] is not None:
        raise outcome[0]

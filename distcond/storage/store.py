"""Whole files on any file system of pyarrow.fs, and its errors as one line that names cause and remedy.

A reader sees the old or the new file, never half of one.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from distcond.atomic_io import atomic_write
from distcond.errors import ConfigError, TransientError

_NO_KEY = "no valid credentials; give them in the environment (S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
_NETWORK = r"NETWORK_CONNECTION|curlCode|connect|resolve|timed? ?out|Timeout|no answer"

_UNREACHABLE = "not reachable"
_SERVER_ERROR = "in trouble itself; try again later"
_SERVER_ERRORS = r"HTTP status 5\d\d|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|\bUNAVAILABLE\b"

_CAUSES = (
    (r"ACCESS_KEY|SIGNATURE|credential|No response body|TOKEN_|HTTP status 401|UNAUTHORIZED|invalid_grant",
     _NO_KEY),
    (r"ACCESS_DENIED|HTTP status 403|Permission denied|Read-only|PERMISSION", "not allowed to; ask for write access"),
    (r"NO_SUCH_BUCKET|bucket does not exist|NoSuchBucket|404.*bucket", "no such bucket; make it first"),
    (_NETWORK, _UNREACHABLE),
    (_SERVER_ERRORS, _SERVER_ERROR),
    (r"No space left|quota|ENOSPC", "full"),
)  # fmt: skip


def describe_storage_error(uri: str, error: BaseException) -> str:
    """`URI: no valid credentials; give them ... (what the file system said)`; the URI without its query."""
    uri = uri.partition("?")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    said = textwrap.shorten(text, 160, placeholder=" ...")
    if uri.startswith("s3:") and not _has_s3_key() and not re.search(_NETWORK, text):
        return f"{uri}: {_NO_KEY}"
    for pattern, cause in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{uri}: {cause} ({said})"
    return f"{uri}: {said}"


def as_config_error(error: OSError) -> ConfigError:
    """What to raise where nothing can go on without the storage that met `error`.

    NotNow if it did not answer, or had trouble of its own.
    """
    away = re.search(f": {_UNREACHABLE}|: {_SERVER_ERROR}|: no answer", str(error))
    return TransientError(str(error)) if away else ConfigError(str(error))


def _has_s3_key() -> bool:
    """Whether there is any sign of credentials: without, servers refuse in many ways that name another reason."""
    signs = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
             "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")  # fmt: skip
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    metadata = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and Path("/sys/hypervisor").exists()
    return any(map(os.environ.get, signs)) or Path(file).expanduser().is_file() or metadata


T = TypeVar("T")

#: Seconds after which a store that says nothing counts as unreachable.
TIMEOUT_SECONDS = 60.0

_CHUNK = 4 * 2**20
#: These show a file when its writer has closed it; elsewhere it is written aside and moved.
_ATOMIC_FILE_SYSTEMS = ("s3", "gcs", "abfs")


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
            self._with_clear_errors(lambda: self._write(name, source))
            return source.tell()

    def put_bytes(self, content: bytes, name: str) -> None:
        """Publish `content` as `name`."""
        import io

        self._with_clear_errors(lambda: self._write(name, io.BytesIO(content)))

    def get(self, name: str, local: Path) -> None:
        """Fetch a file; `local` is whole or as it was.

        Raises:
            StorageError: there is none, or it cannot be read.
        """
        with atomic_write(local) as aside, open(aside, "wb") as target:
            self._with_clear_errors(lambda: self._read(name, target))

    def read(self, name: str) -> bytes:
        """The content of a small file."""
        return self._with_clear_errors(lambda: self._bytes(name))

    def names(self, below: str = "") -> dict[str, Stat]:
        """Size and time of all files at and below a folder, by name; hidden ones (`.x`) are left out."""
        found = self._with_clear_errors(lambda: self._listed(below))
        return {name: size for name, size in found.items() if not any(p.startswith(".") for p in name.split("/"))}

    def folders(self) -> list[str]:
        """The names of the folders right below."""
        from pyarrow.fs import FileSelector, FileType

        chosen = FileSelector(self.base, allow_not_found=True)
        infos = self._with_clear_errors(lambda: self.filesystem.get_file_info(chosen))
        return sorted(info.base_name for info in infos if info.type == FileType.Directory)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        from pyarrow.fs import FileType

        return bool(
            self._with_clear_errors(lambda: self.filesystem.get_file_info(self._at(name))).type == FileType.File
        )

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
            call_with_timeout(TIMEOUT_SECONDS, lambda: self.put_bytes(b"distcond\n", name))
            call_with_timeout(TIMEOUT_SECONDS, lambda: self.delete(name))
        except OSError as error:
            raise as_config_error(error) from error

    def _at(self, name: str) -> str:
        return f"{self.base}/{name}" if name else self.base

    def _gone(self, remove: Callable[[], None], still_there: Callable[[], bool]) -> None:
        try:
            self._with_clear_errors(remove)
        except OSError:
            # On object stores a removal also puts the folder above back as an object, which some servers refuse.
            if still_there():
                raise

    def _with_clear_errors(self, work: Callable[[], T]) -> T:
        """The result of `work`; what goes wrong in it as one line that names the place."""
        try:
            return work()
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
        at = self._at(name)
        if self.filesystem.type_name == "local":
            with atomic_write(Path(at)) as aside, open(aside, "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            return
        whole = self.filesystem.type_name in _ATOMIC_FILE_SYSTEMS
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


def call_with_timeout(seconds: float, work: Callable[[], object]) -> None:
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

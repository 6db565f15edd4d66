"""Directories that no other user of the machine can enter or replace, and what makes a path open to others.

A path is open where another user may write to it or put something else in its place: the path itself, any directory or
link on the way to it. Root is trusted, as it could do anything anyway.
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from distcond.errors import ConfigError

#: Start of the name of every directory that `temporary_private_dir` makes.
PREFIX = "distcond-"

#: The environment variable by which a launcher tells its processes a private directory that it will remove.
VARIABLE = "DISTCOND_PRIVATE_DIR"

#: A file in such a directory, locked by the process that the directory belongs to.
_OWNER_FILE = "owner"

#: Links on the way to a path, after which the system gives up.
_MAX_LINKS = 40


def why_open(path: Path, trust_group: bool = False) -> str:
    """Why another user may change what is at `path`: one phrase; "" if none may.

    Args:
        path: a file or directory. If it is missing, the place where it would be created is examined.
        trust_group: whether the members of a directory's group count as this user.
    """
    places, closed = list(_way(path)), Path("/nowhere")
    for place in places:
        if place.is_relative_to(closed):
            continue
        with suppress(OSError):  # missing, or nothing that this user could reach either
            entry = os.lstat(place)
            reason = _why_open(place, entry, inside=place == places[-1], trust_group=trust_group)
            if reason:
                return reason
            closed = place if _keeps_others_out(entry, trust_group) else closed
    return ""


def why_readable(path: Path) -> str:
    """Why another user may read the file at `path`: one phrase; "" if none may."""
    if any(_keeps_others_out(os.lstat(place), trust_group=False) for place in _way(path)):
        return ""
    mode = path.stat().st_mode
    if mode & 0o004 or (mode & 0o040 and not _is_own_group(path.stat().st_gid)):
        return f"{path} is readable by others (mode {stat.S_IMODE(mode):04o})"
    return ""


def make_private_dir(path: Path, trust_group: bool = False) -> Path:
    """Make a directory of mode 0700, or take an existing one of this user. Its parents get the usual mode.

    Args:
        path: where.
        trust_group: as for `why_open`.

    Raises:
        ConfigError: something of another user, a link or a file is at `path`, or others may replace it.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    entry = os.lstat(path)
    if not stat.S_ISDIR(entry.st_mode):
        raise ConfigError(f"{path}: not a directory, but this user's own one is needed here; remove it")
    if entry.st_uid != os.geteuid():
        raise ConfigError(f"{path}: belongs to {_user(entry.st_uid)}; have it removed, or set TMPDIR to another place")
    if stat.S_IMODE(entry.st_mode) != 0o700:
        os.chmod(path, 0o700)
    reason = why_open(path, trust_group)
    if reason:
        raise ConfigError(f"{path}: {reason}; valid: a place where only this user may write")
    return path


def write_token(file: Path) -> str:
    """Write a new token to a new file of mode 0600. Returns the token, 64 letters."""
    token = secrets.token_hex(32)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(token)
    return token


def choose_temporary(parents: Sequence[str] = (), max_path: int = 0) -> str:
    """The first directory in which this user may make a directory that nobody else can replace.

    Args:
        parents: candidates; by default the private directory that a launcher has named, the directory for temporary
            files, /tmp and /var/tmp.
        max_path: the most characters that its path may have; 0 = any number.

    Raises:
        ConfigError: none of them will do.
    """
    for parent in parents or (os.environ.get(VARIABLE, ""), tempfile.gettempdir(), "/tmp", "/var/tmp"):
        fits = parent and (not max_path or len(parent) <= max_path)
        if fits and os.access(parent, os.W_OK | os.X_OK) and not why_open(Path(parent) / "x"):
            return parent
    short = f" with a path of {max_path} characters at most" if max_path else ""
    raise ConfigError(f"TMPDIR: a writable directory{short} is needed in which others cannot rename, like /tmp")


@contextmanager
def temporary_private_dir(max_path: int = 0, parents: Sequence[str] = (), prefix: str = PREFIX) -> Iterator[Path]:
    """A new directory of mode 0700 with a random name.

    It is deleted after the block, as are the directories of processes of this user that were killed before they could.

    Args:
        max_path: the most characters that its path may have; 0 = any number.
        parents: where it may be; see `choose_temporary`.
        prefix: start of its name. Up to the first "-" it is that of the directories that are deleted.

    Raises:
        ConfigError: no directory for temporary files is writable, safe from other users and short enough.
    """
    parent = choose_temporary(parents, max(0, max_path - len(f"/{prefix}xxxxxxxx")))
    _remove_abandoned(Path(parent), prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with open(folder / f".{_OWNER_FILE}", "w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)  # the system releases it when this process ends
            os.rename(folder / f".{_OWNER_FILE}", folder / _OWNER_FILE)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _way(path: Path) -> Iterator[Path]:
    """Every directory and link that the system passes on the way to `path`, and `path` itself."""
    here, parts, links = Path("/"), list(path.absolute().parts[1:]), 0
    yield here
    while parts:
        name = parts.pop(0)
        here = here.parent if name == ".." else here / name
        if name == "..":
            continue
        yield here
        if here.is_symlink() and links < _MAX_LINKS:
            target, links = Path(os.readlink(here)), links + 1
            parts = [*(target.parts[1:] if target.is_absolute() else target.parts), *parts]
            here = Path("/") if target.is_absolute() else here.parent


def _keeps_others_out(entry: os.stat_result, trust_group: bool) -> bool:
    """Whether nobody else gets past a directory."""
    others = 0o001 if trust_group or _is_own_group(entry.st_gid) else 0o011
    return stat.S_ISDIR(entry.st_mode) and not entry.st_mode & others


def _why_open(place: Path, entry: os.stat_result, inside: bool, trust_group: bool) -> str:
    """Why another user may change `place`; `inside` also what it contains."""
    if entry.st_uid not in _trusted_users():
        return f"{place} belongs to {_user(entry.st_uid)}"
    if stat.S_ISLNK(entry.st_mode) or (entry.st_mode & stat.S_ISVTX and not inside):
        return ""  # in a sticky directory others cannot touch what is not theirs
    if entry.st_mode & stat.S_IWOTH:
        return f"{place} is writable by every user"
    if entry.st_mode & stat.S_IWGRP and not trust_group and not _is_own_group(entry.st_gid):
        return f"{place} is writable by the group {_group(entry.st_gid)}"
    return ""


@cache
def _trusted_users() -> frozenset[int]:
    """This user and root, which has another number in a user namespace that does not map it."""
    trusted = {os.geteuid(), 0}
    with suppress(OSError, ValueError):
        mapped = [[int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if sum(count for _, _, count in mapped) < 2**32 - 1:
            trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    return frozenset(trusted)


@cache
def _is_own_group(group: int) -> bool:
    """Whether a group has no other member than this user: root's, or one with the user's name, as many systems have."""
    if group == 0:
        return True
    try:
        entry, name = grp.getgrgid(group), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for owner in parent.glob(f"{prefix.partition('-')[0]}-*/{_OWNER_FILE}"):
        with suppress(OSError):  # another user's, or deleted meanwhile
            folder, file = os.lstat(owner.parent), os.lstat(owner)
            if {folder.st_uid, file.st_uid} != {os.geteuid()} or not stat.S_ISREG(file.st_mode):
                continue
            with open(owner) as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner is alive
                shutil.rmtree(owner.parent, ignore_errors=True)

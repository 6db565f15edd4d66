"""Code named in files: a run directory is data, and who can write one must not choose what runs.

A method, model, sampler or data set may be named `package.module:NAME`. Named on a command line or in Python, it is
imported. Named in the `config.json` of a run, it is imported only if nobody else can have written that file, or with
`trust=true`; and without `trust=true` it is not looked for in the working directory. Modules that this process has
imported already are used as they are.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

from distcond.config.fields import parse_value
from distcond.errors import ConfigError

#: Set by `trust=true`, also for worker processes.
TRUST_VARIABLE = "DISTCOND_TRUST"

_REMEDY = f"trust=true, or {TRUST_VARIABLE}=true in the environment"
_CODE = re.compile(r"([^\W\d][\w.]*):[^\W\d][\w.]*")
_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


def take_trust(argv: Sequence[str]) -> list[str]:
    """The arguments without `trust=true`, which makes this process and its workers trust files.

    Raises:
        ConfigError: `trust` is neither true nor false.
    """
    for arg in argv:
        if arg.startswith("trust="):
            trusted: bool = parse_value("trust", arg.removeprefix("trust="), bool)
            os.environ[TRUST_VARIABLE] = str(trusted).lower()
    return [arg for arg in argv if not arg.startswith("trust=")]


@contextmanager
def trusting_files(trust: bool) -> Iterator[None]:
    """Within the block, with `trust`, code named in files is imported."""
    token = _trusting.set(trust or _trusting.get())
    try:
        yield
    finally:
        _trusting.reset(token)


def trusts_files() -> bool:
    """Whether code named in files is imported, whoever may have written them."""
    return _trusting.get() or os.environ.get(TRUST_VARIABLE) == "true"


def check_named_code(file: Path, settings: Mapping[str, Any]) -> None:
    """Import the code that the settings in a file name, if it may run.

    Raises:
        ConfigError: others may have written the file; or a module is not found.
    """
    values = [item for value in settings.values() for item in (value if isinstance(value, list) else [value])]
    names = [value for value in values if isinstance(value, str) and _CODE.fullmatch(value)]
    unknown = [name for name in names if name.partition(":")[0] not in sys.modules]
    if not unknown or trusts_files():
        return
    others = who_else_may_write(file)
    if others:
        raise ConfigError(f"{file}: names the code {unknown[0]}, and {others}; if you trust them: {_REMEDY}")
    with _without_working_dir():
        for name in unknown:
            _import(name, file)


def who_else_may_write(file: Path) -> str:
    """Who besides this user and root may write or replace a file, as a phrase; "" if nobody."""
    resolved = file.resolve()
    for path in (resolved, *resolved.parents):
        found = path.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to {_user_name(found.st_uid)}"
        own_entries_only = path.is_dir() and path != resolved.parent and found.st_mode & stat.S_ISVTX
        if found.st_mode & stat.S_IWOTH and not own_entries_only:
            return f"everybody may write {path}"
        if found.st_mode & stat.S_IWGRP and not own_entries_only and not _is_private_group(found.st_gid, found.st_uid):
            return f"the group {_group_name(found.st_gid)} may write {path}"
    return ""


def _import(name: str, file: Path) -> None:
    module = name.partition(":")[0]
    try:
        import_module(module)
    except ImportError as error:
        hint = f"the working directory is not searched: install it, set PYTHONPATH, or {_REMEDY}"
        raise ConfigError(f"{file}: names the code {name}: {error}; {hint}") from error


@contextmanager
def _without_working_dir() -> Iterator[None]:
    """Within the block, modules are not looked for in the working directory, unless PYTHONPATH has it."""
    before = list(sys.path)
    named = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    here = os.getcwd()
    sys.path[:] = [entry for entry in before if os.path.abspath(entry or here) != here or here in named]
    try:
        yield
    finally:
        sys.path[:] = before


def _is_private_group(gid: int, uid: int) -> bool:
    """Whether only one user is in a group: the group that many systems make for each user, named like the user."""
    with suppress(KeyError):
        group = grp.getgrgid(gid)
        return group.gr_name == pwd.getpwuid(uid).pw_name and set(group.gr_mem) <= {group.gr_name}
    return False


def _user_name(uid: int) -> str:
    with suppress(KeyError):
        return f"user {pwd.getpwuid(uid).pw_name}"
    return f"user {uid}"


def _group_name(gid: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)

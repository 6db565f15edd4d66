"""Provenance of a run: versions, hardware, commit, command, and digests of the user's own code.

A method, model, sampler or data set may be named `package.module:NAME`. The run ID contains that name; `config.json`
contains the digest of its code when the run was trained.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import distcond
from distcond.config.overrides import NAMED_GROUPS
from distcond.config.schema import Config
from distcond.registry import lookup

#: Set by the submitter of a job: Ray does not ship .git.
COMMIT_VARIABLE = "DISTCOND_GIT_COMMIT"


def describe_start() -> dict[str, Any]:
    """A record of one start of a run, written by its driver."""
    return {
        "id": secrets.token_hex(8),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [os.path.basename(sys.executable), *sys.argv],
        "git_commit": git_commit(),
        "distcond": distcond.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "host": socket.gethostname(),
    }


def hardware(device: torch.device) -> str:
    """Name of the GPU, or model of the CPU with the number of usable cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores"


def git_commit() -> str:
    """The commit of this code: as submitted, else of its checkout (`+changes` if dirty), else "unknown"."""
    if os.environ.get(COMMIT_VARIABLE):
        return os.environ[COMMIT_VARIABLE]
    checkout = Path(__file__).resolve().parent
    commit = _git(checkout, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")


def _git(checkout: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


_STANDARD_LIBRARY = Path(os.__file__).parent


def source_digests(config: Config) -> dict[str, str]:
    """{"method": 16 hex digits, ...}: digests of the user's code that the config names by module, with its imports.

    Code of distcond and code without a file, as in a notebook, is left out.

    Raises:
        ConfigError: the code cannot be imported.
    """
    named = {kind: getattr(config, kind).name for kind in (*NAMED_GROUPS, "data")}
    digests = {kind: _digest(kind, name) for kind, name in named.items() if ":" in name}
    return {kind: digest for kind, digest in digests.items() if digest}


def _digest(kind: str, name: str) -> str:
    value, start = lookup(kind, name), sys.modules[name.partition(":")[0]]
    # The value may be defined in another module than the named one, which only re-exports it.
    files = _files_of([start, *_modules_in(value)], start.__name__.partition(".")[0])
    digest = hashlib.blake2b(digest_size=8)
    for module, file in sorted(files.items()):
        digest.update(f"{module} ".encode() + file.read_bytes())
    return digest.hexdigest() if files else ""


def _files_of(modules: list[ModuleType], package: str) -> dict[str, Path]:
    """The source files of these modules and of the user's modules that they import, by module name."""
    files, seen = dict[str, Path](), set[str]()
    while modules:
        module = modules.pop()
        file = Path(getattr(module, "__file__", None) or "")
        if module.__name__ in seen or not _is_user_code(module, file, package):
            continue
        seen.add(module.__name__)
        files[module.__name__] = file
        modules += [other for value in vars(module).values() for other in _modules_of(value)]
    return files


def _is_user_code(module: ModuleType, file: Path, package: str) -> bool:
    top = module.__name__.partition(".")[0]
    if top == "distcond" or file.suffix != ".py" or not file.is_file():
        return False
    installed = "site-packages" in file.parts or "dist-packages" in file.parts
    return top == package or not (installed or file.is_relative_to(_STANDARD_LIBRARY))


def _modules_in(value: Any) -> list[ModuleType]:
    return [module for part in (value, *vars(value).values()) for module in _modules_of(part)]


def _modules_of(value: Any) -> list[ModuleType]:
    """The module that a value is, or in which it or its type is defined."""
    if isinstance(value, ModuleType):
        return [value]
    names = {getattr(value, "__module__", None), type(value).__module__}
    return [sys.modules[name] for name in names if isinstance(name, str) and name in sys.modules]

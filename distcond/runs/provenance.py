"""Provenance of a run: versions, hardware, commit, command, and digests of the user's own code.

A method, model, sampler or data set may be named `package.module:NAME`. The run ID has that name; the digest of
its code when the run was trained is in the run's `config.json`.
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

#: Set by whoever submits a job: Ray leaves .git out of the directory it ships.
COMMIT_VARIABLE = "DISTCOND_GIT_COMMIT"


def describe_start() -> dict[str, Any]:
    """One start of a run, as its driver sees it."""
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
    """The GPU's name, or the CPU's model with its number of usable cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores"


def git_commit() -> str:
    """The commit of this code: as submitted, else of the checkout it lies in (`+changes` if dirty), else "unknown"."""
    if os.environ.get(COMMIT_VARIABLE):
        return os.environ[COMMIT_VARIABLE]
    here = Path(__file__).resolve().parent
    commit = _git(here, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def _git(where: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, timeout=10)
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
    """{"method": 16 hex digits, ...} of what the config names by module: its file and those of the user it imports.

    What comes with distcond is left out, and so is code without a file, as in a notebook.

    Raises:
        ConfigError: it cannot be imported.
    """
    named = {kind: getattr(config, kind).name for kind in (*NAMED_GROUPS, "data")}
    found = {kind: _digest(kind, name) for kind, name in named.items() if ":" in name}
    return {kind: digest for kind, digest in found.items() if digest}


def _digest(kind: str, name: str) -> str:
    value, start = lookup(kind, name), sys.modules[name.partition(":")[0]]
    # The value may have been made elsewhere: a module that only hands it on says nothing about it.
    files = _files_of([start, *_modules_in(value)], start.__name__.partition(".")[0])
    digest = hashlib.blake2b(digest_size=8)
    for module, file in sorted(files.items()):
        digest.update(f"{module} ".encode() + file.read_bytes())
    return digest.hexdigest() if files else ""


def _files_of(modules: list[ModuleType], package: str) -> dict[str, Path]:
    """The source files of these modules and of the user's modules behind them, by module name."""
    files, seen = dict[str, Path](), set[str]()
    while modules:
        module = modules.pop()
        file = Path(getattr(module, "__file__", None) or "")
        if module.__name__ in seen or not _of_user(module, file, package):
            continue
        seen.add(module.__name__)
        files[module.__name__] = file
        modules += [other for value in vars(module).values() for other in _modules_of(value)]
    return files


def _of_user(module: ModuleType, file: Path, package: str) -> bool:
    top = module.__name__.partition(".")[0]
    if top == "distcond" or file.suffix != ".py" or not file.is_file():
        return False
    installed = "site-packages" in file.parts or "dist-packages" in file.parts
    return top == package or not (installed or file.is_relative_to(_STANDARD_LIBRARY))


def _modules_in(value: Any) -> list[ModuleType]:
    return [module for part in (value, *vars(value).values()) for module in _modules_of(part)]


def _modules_of(value: Any) -> list[ModuleType]:
    """The module that a value is, or where it or its type was defined."""
    if isinstance(value, ModuleType):
        return [value]
    names = {getattr(value, "__module__", None), type(value).__module__}
    return [sys.modules[name] for name in names if isinstance(name, str) and name in sys.modules]

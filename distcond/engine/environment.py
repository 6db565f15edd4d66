"""What ran where: versions, hardware, commit and command, written beside every run."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import distcond

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

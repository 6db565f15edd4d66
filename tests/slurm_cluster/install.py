"""SLURM from Debian's packages, where this is root on a machine with apt."""

from __future__ import annotations

import os
import shutil
import subprocess

_NEEDED = ("slurmctld", "slurmd", "slurm-client", "munge", "iproute2", "util-linux")
_ACCOUNTING = ("slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server-core", "mariadb-client-core")


def missing() -> str:
    """Why there is no SLURM to be had here; "" when it is installed, if need be now."""
    if os.geteuid() != 0:
        return "a SLURM for the tests needs root"
    if _there("slurmctld", "slurmd", "sbatch", "munged", "ip"):
        return ""
    if not _there("apt-get"):
        return "SLURM is not installed and there is no apt-get"
    problem = _apt("update", "-qq") or _apt("install", "-y", "-qq", "--no-install-recommends", *_NEEDED)
    if not problem:
        # Without it only the tests of sacct are left out.
        _apt("install", "-y", "-qq", "--no-install-recommends", *_ACCOUNTING)
    return f"SLURM cannot be installed: {problem}" if problem else ""


def _there(*programs: str) -> bool:
    return all(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in programs)


def _apt(*words: str) -> str:
    """The last line of what went wrong, "" if nothing did."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(["apt-get", *words], env=quiet, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return f"apt-get {words[0]} took more than five minutes"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"apt-get {words[0]} failed"])[-1]

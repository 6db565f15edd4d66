"""What SLURM says of a sweep's jobs, asked once for all of them: squeue, and sacct where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from distcond.errors import ConfigError

#: States of a job that SLURM will still do something about; one that a lost node took with it is among them.
LIVE = frozenset(
    ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
     "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT")
)  # fmt: skip
#: Seconds that SLURM's programs get to answer.
TIMEOUT = 60.0


class Job(NamedTuple):
    """One job, or one task of an array."""

    id: str
    state: str
    reason: str = ""
    nodes: str = ""

    @property
    def live(self) -> bool:
        """Whether it runs or will."""
        return self.state in LIVE


#: Name of a submission and index in its array -> the job.
Jobs = dict[tuple[str, int], Job]


def squeue(names: Collection[str]) -> Jobs:
    """The jobs of these names that SLURM still holds: all that are not over, and for minutes those that are.

    Raises:
        ConfigError: it does not answer. Jobs that cannot be seen must not be taken for gone.
    """
    words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%j|%T|%r|%N", f"--name={','.join(names)}"]
    lines = _run_program(words)
    if isinstance(lines, str):
        raise ConfigError(f"squeue does not answer ({lines}); nothing is known of the jobs, try again")
    return _parse_jobs(lines)


def sacct(names: Collection[str], since: str) -> Jobs | str:
    """The jobs of these names in SLURM's accounts since a time, ISO; or why there are none."""
    fields = "--format=JobID,JobName,State,Reason,NodeList"
    words = ["sacct", "--noheader", "--allocations", "--parsable2", fields, f"--name={','.join(names)}"]
    lines = _run_program([*words, f"--starttime={since}"])
    return lines if isinstance(lines, str) else _parse_jobs(lines)


def scancel(ids: Collection[str]) -> None:
    """End these jobs.

    Raises:
        ConfigError: SLURM does not.
    """
    lines = _run_program(["scancel", *ids])
    if isinstance(lines, str):
        raise ConfigError(f"scancel: {lines}")


def alive_local_jobs(ids: Collection[str], jobs: Path) -> set[str]:
    """Those of submitit's local jobs, named by their process, that still run."""
    return {name for name in ids if str(jobs).encode() in _command_line(name)}


def _command_line(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _parse_jobs(lines: list[str]) -> Jobs:
    found: Jobs = {}
    for line in lines:
        number, name, state, reason, nodes = line.split("|", 4)
        match = re.fullmatch(r"(\d+)(?:_(\d+))?", number)
        if match is None:  # tasks of an array that wait, under one line in sacct: squeue has them one by one
            continue
        # "CANCELLED by 1000" in accounts.
        found[name, int(match[2] or 0)] = Job(number, state.split(" ")[0], reason, nodes)
    return found


def _run_program(words: list[str]) -> list[str] | str:
    """The lines of a program's output, or what went wrong."""
    if shutil.which(words[0]) is None:
        return f"{words[0]} is not on PATH"
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"no answer in {TIMEOUT:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
    return done.stdout.splitlines()

"""The state of a sweep's jobs in SLURM, by one call for all of them: squeue, and sacct where it is available."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from distcond.errors import ConfigError

#: States of jobs that run or that SLURM will run, including those that lost their node.
LIVE = frozenset(
    ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
     "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT")
)  # fmt: skip
#: Seconds until a SLURM program counts as not answering.
TIMEOUT = 60.0

#: SLURM's default of KillWait in seconds.
KILL_WAIT = 30.0


class Job(NamedTuple):
    """One job, or one task of an array."""

    id: str
    state: str
    reason: str = ""
    nodes: str = ""

    @property
    def live(self) -> bool:
        """Whether it runs or will run."""
        return self.state in LIVE


#: (name of the submission, index in its array) -> the job.
Jobs = dict[tuple[str, int], Job]


def squeue(names: Collection[str]) -> Jobs:
    """The jobs of these names that SLURM still lists: all that have not ended, and others for some minutes.

    Raises:
        ConfigError: it does not answer. Jobs must not count as gone then.
    """
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--format=%i|%j|%T|%r|%N",
        f"--name={','.join(names)}",
    ]
    lines = _run_program([*command, f"--name={','.join(names)}"])
    if isinstance(lines, str):
        raise ConfigError(f"squeue does not answer ({lines}), so the state of the jobs is unknown; try again")
    return _parse_jobs(lines)


def sacct(names: Collection[str], since: str) -> Jobs | str:
    """The jobs of these names in SLURM's accounting since an ISO time; or why it is not available."""
    fields = "--format=JobID,JobName,State,Reason,NodeList"
    command = ["sacct", "--noheader", "--allocations", "--parsable2", fields, f"--name={','.join(names)}"]
    lines = _run_program([*command, f"--starttime={since}"])
    return lines if isinstance(lines, str) else _parse_jobs(lines)


def scancel(ids: Collection[str]) -> None:
    """Cancel these jobs.

    Raises:
        ConfigError: SLURM refuses or does not answer.
    """
    lines = _run_program(["scancel", *ids])
    if isinstance(lines, str):
        raise ConfigError(f"scancel: {lines}")


def kill_wait() -> float:
    """Seconds between SIGTERM and SIGKILL when SLURM ends a job; its default if it does not say."""
    lines = _run_program(["scontrol", "show", "config"])
    found = [re.match(r"KillWait\s*=\s*(\d+)", line) for line in lines] if isinstance(lines, list) else []
    return next((float(match[1]) for match in found if match), KILL_WAIT)


def is_ending(job: str) -> bool:
    """Whether SLURM ends a job, as after `scancel`; a preempted one still runs. True if SLURM does not say at once."""
    lines = _run_program(["squeue", "--noheader", "--format=%T", f"--jobs={job}"], seconds=2.0)
    return isinstance(lines, str) or "RUNNING" not in (line.strip() for line in lines)


def alive_local_jobs(ids: Collection[str], jobs: Path) -> set[str]:
    """Those of submitit's local jobs, whose IDs are process IDs, that still run."""
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
        if match is None:  # waiting tasks of an array, one line in sacct; squeue lists them one by one
            continue
        # sacct says "CANCELLED by 1000".
        found[name, int(match[2] or 0)] = Job(number, state.split(" ")[0], reason, nodes)
    return found


def _run_program(command: list[str], seconds: float = TIMEOUT) -> list[str] | str:
    """The lines of a program's output, or an error message."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not on PATH"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no answer in {seconds:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
    return done.stdout.splitlines()

"""Submit the runs of a sweep, refuse directories that jobs could not see, and cancel jobs."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.slurm.profile import Profile, profile_to_dict
from cluster.slurm.queue import scancel
from cluster.slurm.runs import Run, SweepRequest, assign_run_ids, expand_runs, tuning_run
from cluster.slurm.sbatch import require_slurm, submit_tasks
from cluster.slurm.status import last_submissions, run_statuses
from cluster.slurm.sweep import Sweep
from cluster.slurm.task import Task
from distcond.errors import ConfigError
from distcond.private_dir import why_open
from distcond.run_layout import FINISHED_FILE

#: Tasks of one array: most sites allow 1001.
MAX_ARRAY_TASKS = 1000

#: Processes that a local sweep may start, most of which wait.
MAX_LOCAL_RUNS = 64

#: In a run directory: the sweep that submitted the run.
_CLAIM_FILE = "submitted_by.txt"

#: Directories and file systems that every node has for itself.
_NODE_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "devtmpfs")


def plan_runs(sweep: Sweep, request: SweepRequest, profile: Profile) -> list[Run]:
    """The runs of a request. Writes nothing.

    Raises:
        ConfigError: an invalid run, or a directory that is not shared, open to others, or holds another sweep.
    """
    if request.tune:
        runs = [tuning_run(request, sweep.path, profile)]
    else:
        runs = assign_run_ids(expand_runs(request), sweep.path / "runs")
    check_shared_directories([sweep.path, *{Path(run.run_dir).parent for run in runs}], profile)
    check_nobody_else_writes(sweep, profile)
    if profile.executor == "local" and len(runs) > MAX_LOCAL_RUNS:
        raise ConfigError(
            f"--profile local: {len(runs)} runs are {len(runs)} processes; valid: {MAX_LOCAL_RUNS} or fewer"
        )
    if sweep.exists:
        _check_same_sweep(sweep, runs, profile)
    return runs


def _check_same_sweep(sweep: Sweep, runs: Sequence[Run], profile: Profile) -> None:
    """Refuse a directory of other runs, or a profile that has changed: the sweep keeps its own."""
    if {run.run_id for run in sweep.runs} != {run.run_id for run in runs}:
        other = f"holds another sweep ({len(sweep.runs)} runs, such as {sweep.runs[0].run_id})"
        raise ConfigError(f"{sweep.path}: {other}; name another directory, or `retry` that one")
    old, new = profile_to_dict(sweep.profile), profile_to_dict(profile)
    changed = sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
    if changed:
        first = f"{changed[0]}={old.get(changed[0])} there, {new.get(changed[0])} here"
        remedy = 'change it in slurm.json, under "profile", then submit or retry'
        raise ConfigError(f"{sweep.path}: was created with another profile ({first}); {remedy}")


def submit_sweep(sweep: Sweep, request: SweepRequest, profile: Profile, again: bool) -> list[Run]:
    """Submit the runs of a request that were not submitted before (all of them with `again`). Returns those runs.

    Raises:
        ConfigError: as `plan_runs`; or SLURM refuses or is not available here.
    """
    runs = plan_runs(sweep, request, profile)
    require_slurm(profile)
    with sweep.exclusive():
        if not sweep.exists:
            create_sweep(sweep, runs, profile)
        before = last_submissions(sweep)
        remaining = [run for run in sweep.runs if again or (run.run_id not in before and not is_taken(run, sweep))]
        submit_runs(sweep, remaining)
    return remaining


def create_sweep(sweep: Sweep, runs: Sequence[Run], profile: Profile) -> None:
    """Write the manifest of a new sweep."""
    from distcond.runs.provenance import git_commit

    sweep.create(
        runs,
        profile,
        # An hour early: the clocks of a cluster differ.
        created=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 3600)),
        host=socket.gethostname(),
        directory=os.getcwd(),
        command=shlex.join(["python", "-m", "cluster.slurm", *sys.argv[1:]]),
        git_commit=git_commit(),
    )


def submit_runs(sweep: Sweep, runs: Sequence[Run]) -> None:
    """Submit runs of a sweep, in arrays. The caller holds `sweep.exclusive()`.

    Raises:
        ConfigError: SLURM refuses, or others may write to the sweep.
    """
    check_nobody_else_writes(sweep, sweep.profile)
    for first in range(0, len(runs), MAX_ARRAY_TASKS):
        _submit_array(sweep, runs[first : first + MAX_ARRAY_TASKS])


def _submit_array(sweep: Sweep, runs: Sequence[Run]) -> None:
    name = f"distcond-{secrets.token_hex(4)}"
    for run in runs:
        _claim(run, sweep)
    # Recorded before: if this process dies in between, the jobs are found by their name.
    sweep.record_submission(name=name, runs=[run.run_id for run in runs], time=time.time())
    tasks = [Task(run, sweep.profile, str(sweep.path)) for run in runs]
    try:
        jobs = submit_tasks(tasks, sweep.profile, name, sweep.jobs)
    except ConfigError as error:
        sweep.record_submission(name=name, refused=str(error))
        for run in runs:
            (Path(run.run_dir) / _CLAIM_FILE).unlink(missing_ok=True)
        raise
    sweep.record_submission(name=name, jobs=jobs)


def is_taken(run: Run, sweep: Sweep) -> bool:
    """Whether the run is finished, or another sweep has submitted it into the same directory."""
    return (Path(run.run_dir) / FINISHED_FILE).exists() or is_claimed(run, sweep)


def is_claimed(run: Run, sweep: Sweep) -> bool:
    """Whether another sweep, which still exists, has submitted the run into the same directory."""
    claim = Path(run.run_dir) / _CLAIM_FILE
    owner = Path(claim.read_text()) if claim.exists() else sweep.path
    return owner != sweep.path and Sweep(owner).exists


def _claim(run: Run, sweep: Sweep) -> None:
    folder = Path(run.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CLAIM_FILE).write_text(str(sweep.path))


def cancel_runs(sweep: Sweep, runs: Sequence[Run]) -> int:
    """Cancel the running and waiting jobs of these runs. Returns how many; `retry` resumes the runs.

    Raises:
        ConfigError: SLURM does not answer.
    """
    run_ids = {run.run_id for run in runs}
    jobs = [
        one.job for one in run_statuses(sweep) if one.run.run_id in run_ids and one.state in ("running", "waiting")
    ]  # fmt: skip
    if not jobs:
        return 0
    if sweep.profile.executor == "slurm":
        scancel(jobs)
    else:
        for job in jobs:
            for process in _children_of(job) or [int(job)]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
    return len(jobs)


def _children_of(process: str) -> list[int]:
    """The children of a local job's shell: submitit's controller, which passes SIGTERM on. The shell would not."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def check_shared_directories(folders: Iterable[Path], profile: Profile) -> None:
    """Refuse directories that every node has for itself.

    Raises:
        ConfigError: one of `folders` is such a directory.
    """
    if profile.executor == "local" or profile.shared_tmp:
        return
    for folder in folders:
        real = folder.resolve()  # follow links into or out of such a directory
        own = next((one for one in _NODE_DIRECTORIES if folder.is_relative_to(one) or real.is_relative_to(one)), "")
        kind = file_system_type(real)
        if own or kind in _MEMORY_FILE_SYSTEMS:
            place = f"in {own}" if own else f"on a {kind}"
            problem = "which every node has for itself: jobs would not see it"
            remedy = "name one on the shared disk (or shared_tmp=true in the profile, if it is shared here)"
            raise ConfigError(f"{folder}: {place}, {problem}; {remedy}")


def check_nobody_else_writes(sweep: Sweep, profile: Profile) -> None:
    """Refuse a sweep whose jobs others could change: a job unpickles what submitit has stored there.

    Raises:
        ConfigError: another user may write to the sweep directory or replace it.
    """
    for folder in (sweep.path, sweep.jobs, sweep.path / "ray"):
        if reason := why_open(folder, profile.trust_group):
            group = ", or trust_group=true in the profile" if "group" in reason else ""
            remedy = f"valid: a place where only you may write{group}"
            raise ConfigError(f"{sweep.path}: {reason}: others could run code in your jobs; {remedy}")


def file_system_type(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system of a path, which need not exist yet; "" if unknown."""
    best, kind = "", ""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, mount_point, mount_kind, *_ = line.split(" ")
        if path.is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, kind = mount_point, mount_kind
    return kind

"""Submit the runs of a sweep, refuse directories that would not work, and cancel jobs."""

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

from cluster.slurm.profile import Profile, to_plain
from cluster.slurm.queue import scancel
from cluster.slurm.runs import Run, SweepRequest, assign_run_ids, expand_runs, tuning_run
from cluster.slurm.sbatch import require_slurm, submit_tasks
from cluster.slurm.status import last_submissions, run_statuses
from cluster.slurm.sweep import Sweep
from cluster.slurm.task import Task
from distcond.errors import ConfigError
from distcond.run_layout import FINISHED_FILE

_OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def check_shared_directories(places: Iterable[Path], profile: Profile) -> None:
    """
    Raises:
        ConfigError: a directory is one that each node has for itself.
    """
    if profile.executor == "local" or profile.shared_tmp:
        return
    for place in places:
        real = place.resolve()  # past links, to such a directory or in place of one
        found = next((one for one in _OF_ONE_NODE if place.is_relative_to(one) or real.is_relative_to(one)), "")
        kind = file_system_type(real)
        if found or kind in _IN_MEMORY:
            what = f"in {found}" if found else f"on a {kind}"
            own = "which every node has for itself: jobs would not see it"
            right = "name one on the shared disk (or shared_tmp=true in the profile, if it is shared here)"
            raise ConfigError(f"{place}: {what}, {own}; {right}")


def file_system_type(place: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system that a path, which need not exist yet, is on; "" where it cannot be told."""
    best, kind = "", ""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, at, found, *_ = line.split(" ")
        if place.is_relative_to(at) and len(at) >= len(best):
            best, kind = at, found
    return kind


#: Tasks of one array: most sites allow 1001.
MAX_ARRAY_TASKS = 1000
#: Processes that a machine is asked to hold at once, most of them waiting.
MAX_LOCAL_RUNS = 64


def plan_runs(sweep: Sweep, ask: SweepRequest, profile: Profile) -> list[Run]:
    """The runs that `ask` comes to. Nothing is written.

    Raises:
        ConfigError: a run that cannot be, or a directory that is not shared or holds another sweep.
    """
    runs = [tuning_run(ask, sweep.path, profile)] if ask.tune else assign_run_ids(expand_runs(ask), sweep.path / "runs")
    check_shared_directories([sweep.path, *{Path(run.run_dir).parent for run in runs}], profile)
    if profile.executor == "local" and len(runs) > MAX_LOCAL_RUNS:
        raise ConfigError(
            f"--profile local: {len(runs)} runs are {len(runs)} processes; valid: {MAX_LOCAL_RUNS} or fewer"
        )
    if sweep.exists and {run.run_id for run in sweep.runs} != {run.run_id for run in runs}:
        held = f"holds another sweep ({len(sweep.runs)} runs, such as {sweep.runs[0].run_id})"
        raise ConfigError(f"{sweep.path}: {held}; name another directory, or `retry` that one")
    if sweep.exists:
        _check_profile(sweep, profile)
    return runs


def _check_profile(sweep: Sweep, profile: Profile) -> None:
    """Refuse to leave out silently what a profile says now."""
    there, here = to_plain(sweep.profile), to_plain(profile)
    other = sorted(name for name in {**there, **here} if there.get(name) != here.get(name))
    if other:
        first = f"{other[0]}={there.get(other[0])} there, {here.get(other[0])} here"
        how = 'change it in slurm.json, under "profile", then submit or retry'
        raise ConfigError(f"{sweep.path}: was made with another profile ({first}); {how}")


def submit_sweep(sweep: Sweep, ask: SweepRequest, profile: Profile, again: bool) -> list[Run]:
    """Submit what `ask` comes to and what was not submitted before; those runs.

    Raises:
        ConfigError: as `plan_runs`; or SLURM refuses, or is not here.
    """
    runs = plan_runs(sweep, ask, profile)
    require_slurm(profile)
    with sweep.exclusive():
        if not sweep.exists:
            create_sweep(sweep, runs, profile)
        before = last_submissions(sweep)
        left = [run for run in sweep.runs if again or (run.run_id not in before and not is_taken(run, sweep))]
        submit_runs(sweep, left)
    return left


def submit_runs(sweep: Sweep, runs: Sequence[Run]) -> None:
    """Submit runs of a sweep, in arrays; the caller holds `sweep.alone()`.

    Raises:
        ConfigError: SLURM refuses.
    """
    for first in range(0, len(runs), MAX_ARRAY_TASKS):
        some = runs[first : first + MAX_ARRAY_TASKS]
        name = f"distcond-{secrets.token_hex(4)}"
        for run in some:
            _claim(run, sweep)
        # Before: should this process die in between, the jobs are found by their name.
        sweep.record_submission(name=name, runs=[run.run_id for run in some], time=time.time())
        tasks = [Task(run, sweep.profile, str(sweep.path)) for run in some]
        try:
            jobs = submit_tasks(tasks, sweep.profile, name, sweep.jobs)
        except ConfigError as error:
            sweep.record_submission(name=name, refused=str(error))
            for run in some:
                (Path(run.run_dir) / _CLAIM).unlink(missing_ok=True)
            raise
        sweep.record_submission(name=name, jobs=jobs)


def is_taken(run: Run, sweep: Sweep) -> bool:
    """Whether another sweep has submitted the same run into the same directory, or it is finished."""
    folder = Path(run.run_dir)
    return (folder / FINISHED_FILE).exists() or is_claimed(run, sweep)


def is_claimed(run: Run, sweep: Sweep) -> bool:
    """Whether another sweep, which is still there, has submitted the same run into the same directory."""
    claim = Path(run.run_dir) / _CLAIM
    owner = Path(claim.read_text()) if claim.exists() else sweep.path
    return owner != sweep.path and Sweep(owner).exists


_CLAIM = "submitted_by.txt"


def _claim(run: Run, sweep: Sweep) -> None:
    folder = Path(run.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CLAIM).write_text(str(sweep.path))


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


def cancel_runs(sweep: Sweep, runs: Sequence[Run]) -> int:
    """End the jobs of these runs that run or wait; how many. What a run has written stays, and `retry` goes on.

    Raises:
        ConfigError: SLURM does not answer.
    """
    wanted = {run.run_id for run in runs}
    ids = [
        one.job for one in run_statuses(sweep) if one.run.run_id in wanted and one.state in ("running", "waiting")
    ]  # fmt: skip
    if not ids:
        return 0
    if sweep.profile.executor == "slurm":
        scancel(ids)
    else:
        for process in ids:
            for told in children_of(process) or [int(process)]:
                with suppress(ProcessLookupError):
                    os.kill(told, signal.SIGTERM)
    return len(ids)


def children_of(process: str) -> list[int]:
    """The children of a local job's shell: submitit's controller, which passes SIGTERM on; the shell would not."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []

"""A new sweep, or the same again: the manifest, then the submission of what was not submitted before."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cluster.slurm.executor import check_there, submit
from cluster.slurm.explore import exploration
from cluster.slurm.grid import Ask, runs_of
from cluster.slurm.identify import Run, identified
from cluster.slurm.profile import Profile, to_plain
from cluster.slurm.refuse import check_shared
from cluster.slurm.state import last_submissions
from cluster.slurm.sweep import Sweep
from cluster.slurm.task import Task
from distcond.errors import ConfigError

#: Tasks of one array: most sites allow 1001.
LARGEST = 1000
#: Processes that a machine is asked to hold at once, most of them waiting.
MOST_LOCAL = 64


def planned(sweep: Sweep, ask: Ask, profile: Profile) -> list[Run]:
    """The runs that `ask` comes to. Nothing is written.

    Raises:
        ConfigError: a run that cannot be, or a directory that is not shared or holds another sweep.
    """
    runs = [exploration(ask, sweep.path, profile)] if ask.tune else identified(runs_of(ask), sweep.path / "runs")
    check_shared([sweep.path, *{Path(run.run_dir).parent for run in runs}], profile)
    if profile.executor == "local" and len(runs) > MOST_LOCAL:
        raise ConfigError(f"--profile local: {len(runs)} runs are {len(runs)} processes; valid: {MOST_LOCAL} or fewer")
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


def order(sweep: Sweep, ask: Ask, profile: Profile, again: bool) -> list[Run]:
    """Submit what `ask` comes to and what was not submitted before; those runs.

    Raises:
        ConfigError: as `planned`; or SLURM refuses, or is not here.
    """
    runs = planned(sweep, ask, profile)
    check_there(profile)
    with sweep.alone():
        if not sweep.exists:
            create(sweep, runs, profile)
        before = last_submissions(sweep)
        left = [run for run in sweep.runs if again or (run.run_id not in before and not taken(run, sweep))]
        send(sweep, left)
    return left


def send(sweep: Sweep, runs: Sequence[Run]) -> None:
    """Submit runs of a sweep, in arrays; the caller holds `sweep.alone()`.

    Raises:
        ConfigError: SLURM refuses.
    """
    for first in range(0, len(runs), LARGEST):
        some = runs[first : first + LARGEST]
        name = f"distcond-{secrets.token_hex(4)}"
        for run in some:
            _claim(run, sweep)
        # Before: should this process die in between, the jobs are found by their name.
        sweep.note(name=name, runs=[run.run_id for run in some], time=time.time())
        tasks = [Task(run, sweep.profile, str(sweep.path)) for run in some]
        try:
            jobs = submit(tasks, sweep.profile, name, sweep.jobs)
        except ConfigError as error:
            sweep.note(name=name, refused=str(error))
            for run in some:
                (Path(run.run_dir) / _CLAIM).unlink(missing_ok=True)
            raise
        sweep.note(name=name, jobs=jobs)


def taken(run: Run, sweep: Sweep) -> bool:
    """Whether another sweep has submitted the same run into the same directory, or it is finished."""
    folder = Path(run.run_dir)
    return (folder / "finished.json").exists() or claimed(run, sweep)


def claimed(run: Run, sweep: Sweep) -> bool:
    """Whether another sweep, which is still there, has submitted the same run into the same directory."""
    claim = Path(run.run_dir) / _CLAIM
    owner = Path(claim.read_text()) if claim.exists() else sweep.path
    return owner != sweep.path and Sweep(owner).exists


_CLAIM = "submitted_by.txt"


def _claim(run: Run, sweep: Sweep) -> None:
    folder = Path(run.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CLAIM).write_text(str(sweep.path))


def create(sweep: Sweep, runs: Sequence[Run], profile: Profile) -> None:
    """Write the manifest of a new sweep."""
    from distcond.engine.environment import git_commit

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

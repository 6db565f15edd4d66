"""How the runs of a sweep stand, from SLURM's word on their jobs and from the runs' own files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cluster.slurm.ended import read_ends
from cluster.slurm.identify import Run
from cluster.slurm.queue import Job, Jobs, local, sacct, squeue
from cluster.slurm.sweep import Sweep
from distcond.errors import ConfigError

#: In the order in which they are counted out. "failed" and "missing" are what `retry` submits again.
STATES = ("finished", "running", "waiting", "failed", "missing")


class Standing(NamedTuple):
    """How one run stands.

    Attributes:
        run: which.
        state: one of `STATES`.
        job: the id of its last job, "" before the first.
        detail: how far it is, why it waits, or why it failed.
    """

    run: Run
    state: str
    job: str = ""
    detail: str = ""


class Last(NamedTuple):
    """A run's last submission."""

    name: str
    at: int  # in the array
    job: str


def standings(sweep: Sweep) -> list[Standing]:
    """Every run, in the order of the sweep. SLURM is asked once, whatever the number of runs.

    Raises:
        ConfigError: no sweep here, or SLURM does not answer.
    """
    last = last_submissions(sweep)
    open_ = {run.run_id: last[run.run_id] for run in sweep.runs if run.run_id in last and not _finished(run)}
    jobs = _local_jobs(sweep, open_) if sweep.profile.executor == "local" else _slurm_jobs(sweep, open_)
    ends = read_ends(sweep.path)
    return [_standing(run, last.get(run.run_id), jobs, ends.get(run.run_id)) for run in sweep.runs]


def last_submissions(sweep: Sweep) -> dict[str, Last]:
    """By run_id: those that SLURM has not refused."""
    found = {}
    for entry in sweep.submissions():
        if "refused" not in entry:
            ids = entry.get("jobs", [""] * len(entry["runs"]))
            for index, (run_id, job) in enumerate(zip(entry["runs"], ids, strict=True)):
                found[run_id] = Last(entry["name"], index, job)
    return found


def _slurm_jobs(sweep: Sweep, last: Mapping[str, Last]) -> Jobs:
    if not last:
        return {}
    jobs = squeue(sorted({one.name for one in last.values()}))
    # A job that squeue shows is not over, whatever the accounts say: they call one that a lost node took NODE_FAIL
    # while SLURM runs it again.
    unseen = sorted({one.name for one in last.values() if (one.name, one.at) not in jobs})
    if unseen:
        accounts = sacct(unseen, sweep.about["created"])
        if not isinstance(accounts, str):
            jobs = accounts | jobs
    return jobs


def _local_jobs(sweep: Sweep, last: Mapping[str, Last]) -> Jobs:
    import socket

    if last and sweep.about["host"] != socket.gethostname():
        raise ConfigError(f"{sweep.path}: a local sweep of {sweep.about['host']}, whose processes only it can see")
    alive = local([one.job for one in last.values() if one.job], sweep.jobs)
    return {
        (one.name, one.at): Job(one.job, "RUNNING" if one.job in alive else "GONE") for one in last.values()
    }  # fmt: skip


def _standing(run: Run, last: Last | None, jobs: Jobs, end: Mapping[str, Any] | None) -> Standing:
    if _finished(run):
        return Standing(run, "finished", last.job if last else "")
    if last is None:
        return Standing(run, "missing", detail="not submitted")
    job = jobs.get((last.name, last.at))
    if job is None:
        return Standing(run, "failed", last.job, _why(None, end))
    if job.state == "RUNNING" or job.state == "COMPLETING":
        progress = _progress(run)
        return Standing(run, "running" if progress else "waiting", job.id, progress or "has its nodes, starts")
    if job.live:
        again = f", requeued after: {end['why']}" if end else ""
        return Standing(run, "waiting", job.id, f"{job.state.lower()} ({job.reason}){again}")
    return Standing(run, "failed", job.id, _why(job, end))


def _why(job: Job | None, end: Mapping[str, Any] | None) -> str:
    """Why a run's last job is over without the run being finished."""
    said = f"{end['why']}" if end else ""
    if job is None or job.state == "GONE":
        return said or "its job is gone and left no word"
    where = f" on {job.nodes}" if job.nodes and job.nodes != "None assigned" else ""
    return f"{job.state.lower().replace('_', ' ')}{where}" + (f": {said}" if said else "")


def _finished(run: Run) -> bool:
    return Path(run.run_dir, "finished.json").exists()


def _progress(run: Run) -> str:
    """Its last word, "" before the first; without torch, which would take longer to import than all else here."""
    if run.tune:
        trials = Path(run.run_dir, "trials")
        return f"{len(list(trials.iterdir()))} trials begun" if trials.is_dir() else ""
    with suppress(OSError, ValueError, KeyError):
        told = json.loads(Path(run.run_dir, "progress.json").read_text())
        stage = told["stage"]
        at = f"epoch {told['epoch'] + 1} of {told['epochs']}, " if stage == "train" else ""
        return f"{at}{stage}"
    return ""

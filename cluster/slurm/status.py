"""The status of every run of a sweep, from SLURM's queue and the runs' own files; as a table; and what jobs printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cluster.slurm.queue import Job, Jobs, alive_local_jobs, sacct, squeue
from cluster.slurm.runs import Run, format_value
from cluster.slurm.sweep import Sweep, read_exit_records
from distcond.errors import ConfigError
from distcond.run_layout import FINISHED_FILE, PROGRESS_FILE

#: In the order in which they are counted out. "failed" and "missing" are what `retry` submits again.
STATES = ("finished", "running", "waiting", "failed", "missing")


class RunStatus(NamedTuple):
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


class LastSubmission(NamedTuple):
    """A run's last submission."""

    name: str
    at: int  # in the array
    job: str


def run_statuses(sweep: Sweep) -> list[RunStatus]:
    """Every run, in the order of the sweep. SLURM is asked once, whatever the number of runs.

    Raises:
        ConfigError: no sweep here, or SLURM does not answer.
    """
    last = last_submissions(sweep)
    open_ = {run.run_id: last[run.run_id] for run in sweep.runs if run.run_id in last and not _finished(run)}
    jobs = _local_jobs(sweep, open_) if sweep.profile.executor == "local" else _slurm_jobs(sweep, open_)
    ends = read_exit_records(sweep.path)
    return [_run_status(run, last.get(run.run_id), jobs, ends.get(run.run_id)) for run in sweep.runs]


def last_submissions(sweep: Sweep) -> dict[str, LastSubmission]:
    """By run_id: those that SLURM has not refused."""
    found = {}
    for entry in sweep.submissions():
        if "refused" not in entry:
            ids = entry.get("jobs", [""] * len(entry["runs"]))
            for index, (run_id, job) in enumerate(zip(entry["runs"], ids, strict=True)):
                found[run_id] = LastSubmission(entry["name"], index, job)
    return found


def _slurm_jobs(sweep: Sweep, last: Mapping[str, LastSubmission]) -> Jobs:
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


def _local_jobs(sweep: Sweep, last: Mapping[str, LastSubmission]) -> Jobs:
    import socket

    if last and sweep.about["host"] != socket.gethostname():
        raise ConfigError(f"{sweep.path}: a local sweep of {sweep.about['host']}, whose processes only it can see")
    alive = alive_local_jobs([one.job for one in last.values() if one.job], sweep.jobs)
    return {
        (one.name, one.at): Job(one.job, "RUNNING" if one.job in alive else "GONE") for one in last.values()
    }  # fmt: skip


def _run_status(run: Run, last: LastSubmission | None, jobs: Jobs, end: Mapping[str, Any] | None) -> RunStatus:
    if _finished(run):
        return RunStatus(run, "finished", last.job if last else "")
    if last is None:
        return RunStatus(run, "missing", detail="not submitted")
    job = jobs.get((last.name, last.at))
    if job is None:
        return RunStatus(run, "failed", last.job, _failure_reason(None, end))
    if job.state == "RUNNING" or job.state == "COMPLETING":
        progress = _progress(run)
        return RunStatus(run, "running" if progress else "waiting", job.id, progress or "has its nodes, starts")
    if job.live:
        again = f", requeued after: {end['why']}" if end else ""
        return RunStatus(run, "waiting", job.id, f"{job.state.lower()} ({job.reason}){again}")
    return RunStatus(run, "failed", job.id, _failure_reason(job, end))


def _failure_reason(job: Job | None, end: Mapping[str, Any] | None) -> str:
    """Why a run's last job is over without the run being finished."""
    said = f"{end['why']}" if end else ""
    if job is None or job.state == "GONE":
        return said or "its job is gone and left no word"
    where = f" on {job.nodes}" if job.nodes and job.nodes != "None assigned" else ""
    return f"{job.state.lower().replace('_', ' ')}{where}" + (f": {said}" if said else "")


def _finished(run: Run) -> bool:
    return Path(run.run_dir, FINISHED_FILE).exists()


def _progress(run: Run) -> str:
    """Its last word, "" before the first; without torch, which would take longer to import than all else here."""
    if run.tune:
        trials = Path(run.run_dir, "trials")
        return f"{len(list(trials.iterdir()))} trials begun" if trials.is_dir() else ""
    with suppress(OSError, ValueError, KeyError):
        told = json.loads(Path(run.run_dir, PROGRESS_FILE).read_text())
        stage = told["stage"]
        at = f"epoch {told['epoch'] + 1} of {told['epochs']}, " if stage == "train" else ""
        return f"{at}{stage}"
    return ""


def varied_settings(runs: Sequence[Run]) -> list[str]:
    """The settings in which the runs differ, in the order of the grid."""
    paths = list(dict.fromkeys(path for run in runs for path in run.overrides))
    return [path for path in paths if len({format_value(run.overrides.get(path)) for run in runs}) > 1]


def runs_table(runs: Sequence[Run]) -> str:
    """One line a run: number, name, and its values of what varies."""
    paths = varied_settings(runs)
    rows = [["", "run", *paths]]
    rows += [[str(n), run.run_id, *(_format_setting(run, path) for path in paths)] for n, run in enumerate(runs)]
    return _align(rows)


def status_table(standings: Sequence[RunStatus], every: bool) -> str:
    """Counts, then one line for each run that is not finished (or for every run)."""
    paths = varied_settings([one.run for one in standings])
    rows = [["", "run", *paths, "state", "job", ""]]
    rows += [
        [str(n), one.run.run_id, *(_format_setting(one.run, path) for path in paths), one.state, one.job, one.detail]
        for n, one in enumerate(standings)
        if every or one.state != "finished"
    ]
    return f"{count_states(standings)}\n" + (f"\n{_align(rows)}\n" if len(rows) > 1 else "")


def count_states(standings: Sequence[RunStatus]) -> str:
    """ "12 runs: 8 finished, 4 failed"."""
    number = Counter(one.state for one in standings)
    said = [f"{number[state]} {state}" for state in STATES if number[state]]
    return f"{len(standings)} run{'s' if len(standings) != 1 else ''}: {', '.join(said)}"


def _format_setting(run: Run, path: str) -> str:
    value = run.overrides.get(path)
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else format_value(value)


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def log_files(sweep: Sweep, run: Run) -> list[Path]:
    """The output of all tasks of a run's last job, standard output before standard error.

    Raises:
        ConfigError: it has no job, or that has written nothing.
    """
    last = last_submissions(sweep).get(run.run_id)
    if last is None or not last.job:
        raise ConfigError(f"{run.run_id}: no job of it is known; see `status`")
    files = [*sorted(sweep.jobs.glob(f"{last.job}_*_log.out")), *sorted(sweep.jobs.glob(f"{last.job}_*_log.err"))]
    if not files:
        unseen = "it has not started, or its node does not see the sweep directory"
        raise ConfigError(f"{run.run_id}: job {last.job} has printed nothing: {unseen}; see `status`")
    return files


def last_lines(sweep: Sweep, run: Run, lines: int) -> str:
    """The last lines of each of them, under its name."""
    shown = []
    for file in log_files(sweep, run):
        held = file.read_text(errors="replace").splitlines()[-lines:] if lines > 0 else []
        if held:
            shown.append("\n".join([f"==> {file}", *held]))
    return "\n\n".join(shown) or "nothing printed yet"

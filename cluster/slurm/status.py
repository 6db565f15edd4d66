"""The status of every run of a sweep, from SLURM's queue and the runs' own files; tables; and the output of jobs."""

from __future__ import annotations

import json
import socket
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

#: In the order of counts. `retry` submits those that are failed or missing.
STATES = ("finished", "running", "waiting", "failed", "missing")


class RunStatus(NamedTuple):
    """The status of one run.

    Attributes:
        run: the run.
        state: one of `STATES`.
        job: the ID of its last job, "" before the first.
        detail: how far it is, why it waits, or why it failed.
    """

    run: Run
    state: str
    job: str = ""
    detail: str = ""


class LastSubmission(NamedTuple):
    """The last submission of a run: its name, the run's index in the array, and the job ID (empty if unknown)."""

    name: str
    array_index: int
    job: str


def run_statuses(sweep: Sweep) -> list[RunStatus]:
    """The status of every run, in the order of the sweep. Queries SLURM once, whatever the number of runs.

    Raises:
        ConfigError: no sweep here, or SLURM does not answer.
    """
    last = last_submissions(sweep)
    unfinished = {run.run_id: last[run.run_id] for run in sweep.runs if run.run_id in last and not _is_finished(run)}
    jobs = _local_jobs(sweep, unfinished) if sweep.profile.executor == "local" else _slurm_jobs(sweep, unfinished)
    ends = read_exit_records(sweep.path)
    return [_run_status(run, last.get(run.run_id), jobs, ends.get(run.run_id)) for run in sweep.runs]


def last_submissions(sweep: Sweep) -> dict[str, LastSubmission]:
    """The last submission of every run that SLURM has not refused, by run ID."""
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
    # squeue takes precedence: sacct reports a job of a lost node as NODE_FAIL while SLURM runs it again.
    missing = sorted({one.name for one in last.values() if (one.name, one.array_index) not in jobs})
    if missing:
        accounts = sacct(missing, sweep.manifest["created"])
        if not isinstance(accounts, str):
            jobs = accounts | jobs
    return jobs


def _local_jobs(sweep: Sweep, last: Mapping[str, LastSubmission]) -> Jobs:
    if last and sweep.manifest["host"] != socket.gethostname():
        raise ConfigError(f"{sweep.path}: a local sweep, whose processes only {sweep.manifest['host']} can see")
    alive = alive_local_jobs([one.job for one in last.values() if one.job], sweep.jobs)
    return {
        (one.name, one.array_index): Job(one.job, "RUNNING" if one.job in alive else "GONE") for one in last.values()
    }  # fmt: skip


def _run_status(run: Run, last: LastSubmission | None, jobs: Jobs, end: Mapping[str, Any] | None) -> RunStatus:
    if _is_finished(run):
        return RunStatus(run, "finished", last.job if last else "")
    if last is None:
        return RunStatus(run, "missing", detail="not submitted")
    job = jobs.get((last.name, last.array_index))
    if job is None:
        return RunStatus(run, "failed", last.job, _failure_reason(None, end))
    if job.state == "RUNNING" or job.state == "COMPLETING":
        progress = _read_progress(run)
        return RunStatus(run, "running" if progress else "waiting", job.id, progress or "has its nodes, starting")
    if job.live:
        requeued = f", requeued after: {end['why']}" if end else ""
        return RunStatus(run, "waiting", job.id, f"{job.state.lower()} ({job.reason}){requeued}")
    return RunStatus(run, "failed", job.id, _failure_reason(job, end))


def _failure_reason(job: Job | None, end: Mapping[str, Any] | None) -> str:
    """Why a run's last job ended without the run being finished."""
    why = f"{end['why']}" if end else ""
    if job is None or job.state == "GONE":
        return why or "its job is gone without an exit record"
    nodes = f" on {job.nodes}" if job.nodes and job.nodes != "None assigned" else ""
    return f"{job.state.lower().replace('_', ' ')}{nodes}" + (f": {why}" if why else "")


def _is_finished(run: Run) -> bool:
    return Path(run.run_dir, FINISHED_FILE).exists()


def _read_progress(run: Run) -> str:
    """How far a run is, "" before its first progress file. Without torch, whose import takes seconds."""
    if run.tune:
        trials = Path(run.run_dir, "trials")
        return f"{len(list(trials.iterdir()))} trials begun" if trials.is_dir() else ""
    with suppress(OSError, ValueError, KeyError):
        progress = json.loads(Path(run.run_dir, PROGRESS_FILE).read_text())
        stage = progress["stage"]
        epoch = f"epoch {progress['epoch'] + 1} of {progress['epochs']}, " if stage == "train" else ""
        return f"{epoch}{stage}"
    return ""


def varied_settings(runs: Sequence[Run]) -> list[str]:
    """Dotted paths of the settings in which the runs differ, in the order of the grid."""
    paths = list(dict.fromkeys(path for run in runs for path in run.overrides))
    return [path for path in paths if len({format_value(run.overrides.get(path)) for run in runs}) > 1]


def runs_table(runs: Sequence[Run]) -> str:
    """One line per run: number, ID, and its values of the varied settings."""
    paths = varied_settings(runs)
    rows = [["", "run", *paths]]
    rows += [[str(n), run.run_id, *(_format_setting(run, path) for path in paths)] for n, run in enumerate(runs)]
    return _align(rows)


def status_table(statuses: Sequence[RunStatus], every: bool) -> str:
    """Counts, then one line for each unfinished run (for every run with `every`)."""
    paths = varied_settings([one.run for one in statuses])
    rows = [["", "run", *paths, "state", "job", ""]]
    rows += [
        [str(n), one.run.run_id, *(_format_setting(one.run, path) for path in paths), one.state, one.job, one.detail]
        for n, one in enumerate(statuses)
        if every or one.state != "finished"
    ]
    return f"{count_states(statuses)}\n" + (f"\n{_align(rows)}\n" if len(rows) > 1 else "")


def count_states(statuses: Sequence[RunStatus]) -> str:
    """ "12 runs: 8 finished, 4 failed"."""
    number = Counter(one.state for one in statuses)
    counts = [f"{number[state]} {state}" for state in STATES if number[state]]
    return f"{len(statuses)} run{'s' if len(statuses) != 1 else ''}: {', '.join(counts)}"


def _format_setting(run: Run, path: str) -> str:
    value = run.overrides.get(path)
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else format_value(value)


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def log_files(sweep: Sweep, run: Run) -> list[Path]:
    """The output files of all tasks of a run's last job, standard output before standard error.

    Raises:
        ConfigError: it has no job, or the job has printed nothing.
    """
    last = last_submissions(sweep).get(run.run_id)
    if last is None or not last.job:
        raise ConfigError(f"{run.run_id}: no known job; see `status`")
    files = [*sorted(sweep.jobs.glob(f"{last.job}_*_log.out")), *sorted(sweep.jobs.glob(f"{last.job}_*_log.err"))]
    if not files:
        cause = "it has not started, or its node does not see the sweep directory"
        raise ConfigError(f"{run.run_id}: job {last.job} has printed nothing: {cause}; see `status`")
    return files


def last_lines(sweep: Sweep, run: Run, lines: int) -> str:
    """The last lines of each output file below its name."""
    tails = []
    for file in log_files(sweep, run):
        tail = file.read_text(errors="replace").splitlines()[-lines:] if lines > 0 else []
        if tail:
            tails.append("\n".join([f"==> {file}", *tail]))
    return "\n\n".join(tails) or "nothing printed yet"

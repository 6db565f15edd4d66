"""The sbatch text of a profile, and the submission itself, by submitit."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.slurm.process import BEGAN_VARIABLE, ROOT
from cluster.slurm.profile import Profile
from cluster.slurm.task import Task
from distcond.errors import ConfigError

#: Of submitit's own count of time-outs, which takes every signal to a short job for one: `Task` counts.
_NO_LIMIT = 1_000_000

# A signal that comes before Python has a handler would end the job.
_PYTHON = f'sh -c \'trap "" USR2; exec "$0" "$@"\' {shlex.quote(sys.executable)}'


def sbatch_text(profile: Profile, name: str, jobs: Path, runs: int) -> str:
    """What `sbatch` would be given for an array of `runs` (or a single job), up to names that submission makes."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{_PYTHON} -u -m submitit.core._submit {shlex.quote(str(jobs))}"
    count: dict[str, Any] = {"map_count": runs} if runs > 1 else {}
    made: str = _make_sbatch_string(command=command, folder=jobs, **_slurm_parameters(profile, name), **count)
    return made


def submit_tasks(tasks: Sequence[Task], profile: Profile, name: str, jobs: Path) -> list[str]:
    """Submit one job per task, on SLURM as one array; their ids.

    Raises:
        ConfigError: SLURM refuses, with its own words.
    """
    jobs.mkdir(parents=True, exist_ok=True)
    executor = _local_executor(profile, jobs) if profile.executor == "local" else _slurm_executor(profile, name, jobs)
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        # submitit shows what sbatch prints, besides putting it into its error.
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():
            made = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        words = " ".join(line.partition("error: ")[2] for line in str(error).splitlines() if "error: " in line)
        raise ConfigError(
            f"sbatch refuses ({words or error}); it was asked for {_describe_request(profile)}"
        ) from error
    return [str(job.job_id) for job in made]


def require_slurm(profile: Profile) -> None:
    """
    Raises:
        ConfigError: no SLURM on this machine.
    """
    if profile.executor == "local":
        return
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            here = "this machine submits to no SLURM"
            raise ConfigError(f"{program} is not on PATH: {here}; valid: a login node, or --profile local")


def _slurm_executor(profile: Profile, name: str, jobs: Path) -> Any:
    from submitit import SlurmExecutor

    executor = SlurmExecutor(jobs, max_num_timeout=_NO_LIMIT, python=_PYTHON)
    executor.update_parameters(**_slurm_parameters(profile, name))
    return executor


def _local_executor(profile: Profile, jobs: Path) -> Any:
    from submitit import LocalExecutor

    executor = LocalExecutor(jobs, max_num_timeout=_NO_LIMIT, python=_PYTHON)
    # The jobs outlive the shell and keep none of its files open: whoever reads the output of `submit_tasks` would wait.
    apart = ["trap '' HUP", f"exec </dev/null >>{shlex.quote(str(jobs / 'local.log'))} 2>&1"]
    executor.update_parameters(
        timeout_min=profile.time_min,
        gpus_per_node=profile.gpus_per_node,
        tasks_per_node=profile.tasks_per_node,
        signal_delay_s=profile.signal_seconds,
        setup=[*apart, *_setup(profile)],
    )
    return executor


def _slurm_parameters(profile: Profile, name: str) -> dict[str, Any]:
    given = {
        "job_name": name,
        "partition": profile.partition or None,
        "account": profile.account or None,
        "qos": profile.qos or None,
        "constraint": profile.constraint or None,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.tasks_per_node,
        "cpus_per_task": profile.cpus_per_task,
        "gpus_per_node": profile.gpus_per_node or None,
        "mem": f"{round(profile.memory_gb * 1024)}M" if profile.memory_gb else None,
        "time": profile.time_min,
        "signal_delay_s": profile.signal_seconds,
        "array_parallelism": profile.parallel or 100_000,
        "setup": _setup(profile),
        # srun does not take it over from sbatch. And a rank that dies must not leave the others waiting for it.
        "srun_args": [f"--cpus-per-task={profile.cpus_per_task}", "--kill-on-bad-exit=1", *profile.srun],
        # Sites may have switched it off: a job that a node took with it goes on elsewhere.
        "additional_parameters": {"requeue": True, **profile.sbatch},
    }
    return {**{key: value for key, value in given.items() if value is not None}, "wckey": None}


def _setup(profile: Profile) -> list[str]:
    path = os.pathsep.join([str(ROOT), "${PYTHONPATH:-}"])
    return [f"export {BEGAN_VARIABLE}=$(date +%s)", f'export PYTHONPATH="{path}"', *profile.setup]


def _describe_request(profile: Profile) -> str:
    words = [f"partition={profile.partition or '(default)'}", f"nodes={profile.nodes}"]
    words += [f"gpus_per_node={profile.gpus_per_node}"] if profile.gpus_per_node else []
    words += [f"cpus_per_task={profile.cpus_per_task}", f"tasks_per_node={profile.tasks_per_node}"]
    words += [f"memory_gb={profile.memory_gb:g}"] if profile.memory_gb else []
    return ", ".join([*words, f"time_min={profile.time_min}"])

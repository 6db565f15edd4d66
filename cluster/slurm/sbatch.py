"""The sbatch text of a profile, and the submission by submitit."""

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

#: Switches off submitit's count of time-outs, which counts every signal to a short job. `Task` counts instead.
_NO_LIMIT = 1_000_000

# A signal that arrives before Python has a handler would end the job.
_PYTHON = f'sh -c \'trap "" USR2; exec "$0" "$@"\' {shlex.quote(sys.executable)}'


def sbatch_text(profile: Profile, name: str, jobs: Path, runs: int) -> str:
    """The text for `sbatch` of an array of `runs` jobs (or a single job), up to names that submission creates."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{_PYTHON} -u -m submitit.core._submit {shlex.quote(str(jobs))}"
    count: dict[str, Any] = {"map_count": runs} if runs > 1 else {}
    text: str = _make_sbatch_string(command=command, folder=jobs, **_slurm_parameters(profile, name), **count)
    return text


def submit_tasks(tasks: Sequence[Task], profile: Profile, name: str, jobs: Path) -> list[str]:
    """Submit one job per task, on SLURM as one array. Returns the job IDs.

    Raises:
        ConfigError: SLURM refuses; with SLURM's reason.
    """
    jobs.mkdir(parents=True, exist_ok=True)
    executor = _local_executor(profile, jobs) if profile.executor == "local" else _slurm_executor(profile, name, jobs)
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        # submitit also prints sbatch's errors, which are part of the exception.
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():
            submitted = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        reason = " ".join(line.partition("error: ")[2] for line in str(error).splitlines() if "error: " in line)
        raise ConfigError(f"sbatch refuses ({reason or error}); requested: {_describe_request(profile)}") from error
    return [str(job.job_id) for job in submitted]


def require_slurm(profile: Profile) -> None:
    """Check that this machine can submit to SLURM, unless the profile is local.

    Raises:
        ConfigError: it cannot.
    """
    if profile.executor == "local":
        return
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            problem = "this machine cannot submit to SLURM"
            raise ConfigError(f"{program} is not on PATH: {problem}; valid: a login node, or --profile local")


def _slurm_executor(profile: Profile, name: str, jobs: Path) -> Any:
    from submitit import SlurmExecutor

    executor = SlurmExecutor(jobs, max_num_timeout=_NO_LIMIT, python=_PYTHON)
    executor.update_parameters(**_slurm_parameters(profile, name))
    return executor


def _local_executor(profile: Profile, jobs: Path) -> Any:
    from submitit import LocalExecutor

    executor = LocalExecutor(jobs, max_num_timeout=_NO_LIMIT, python=_PYTHON)
    # The jobs outlive the shell, and must not keep its output open: a reader of the pipe would wait for them.
    detach = ["trap '' HUP", f"exec </dev/null >>{shlex.quote(str(jobs / 'local.log'))} 2>&1"]
    executor.update_parameters(
        timeout_min=profile.time_min,
        gpus_per_node=profile.gpus_per_node,
        tasks_per_node=profile.tasks_per_node,
        signal_delay_s=profile.signal_seconds,
        setup=[*detach, *_setup(profile)],
    )
    return executor


def _slurm_parameters(profile: Profile, name: str) -> dict[str, Any]:
    parameters = {
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
        # srun does not inherit it from sbatch. A rank that dies must not leave the others waiting.
        "srun_args": [f"--cpus-per-task={profile.cpus_per_task}", "--kill-on-bad-exit=1", *profile.srun],
        # Sites may have switched it off. With it a job that loses its node runs elsewhere.
        "additional_parameters": {"requeue": True, **profile.sbatch},
    }
    return {**{key: value for key, value in parameters.items() if value is not None}, "wckey": None}


def _setup(profile: Profile) -> list[str]:
    path = os.pathsep.join([str(ROOT), "${PYTHONPATH:-}"])
    return [f"export {BEGAN_VARIABLE}=$(date +%s)", f'export PYTHONPATH="{path}"', *profile.setup]


def _describe_request(profile: Profile) -> str:
    parts = [f"partition={profile.partition or '(default)'}", f"nodes={profile.nodes}"]
    parts += [f"gpus_per_node={profile.gpus_per_node}"] if profile.gpus_per_node else []
    parts += [f"cpus_per_task={profile.cpus_per_task}", f"tasks_per_node={profile.tasks_per_node}"]
    parts += [f"memory_gb={profile.memory_gb:g}"] if profile.memory_gb else []
    return ", ".join([*parts, f"time_min={profile.time_min}"])

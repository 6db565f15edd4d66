"""Submit this checkout as a Ray job with its commit recorded: `python -m cluster.ray_job [RECIPE] [PATH=VALUE ...]`.

The same as `ray job submit --working-dir . -- python -m distcond.train ...`, except that the run records its commit:
Ray does not ship .git. The command line is checked here, before anything is uploaded. The cluster is the one at
RAY_API_SERVER_ADDRESS or RAY_ADDRESS; if it requires a token, set RAY_AUTH_TOKEN_PATH.

`ray job stop JOB` makes the run save a checkpoint and stop. For that the cluster must be started with
RAY_JOB_STOP_WAIT_TIME_S above launch.grace (25): Ray's default of 3 seconds is too short. See docs/ray.md.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distcond.config.command_line import parse, run_cli
from distcond.errors import ConfigError
from distcond.private_dir import why_open
from distcond.runs.provenance import COMMIT_VARIABLE, git_commit

#: Errors of Ray's client, its job server or its store about a package that is too large.
_TOO_LARGE = re.compile(r"exceeds the maximum size|Maximum request body size|status code 413", re.IGNORECASE)


def main(argv: Sequence[str]) -> int:
    """Submit the job and print its log until it ends. Returns status 0 if the job succeeded, else 1."""
    if set(argv) & {"--help", "-h"}:
        print(f"{__doc__}\nFor RECIPE and PATH=VALUE see python -m distcond.train --help.")
        return 0
    parse(argv)
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ConfigError("ray is not installed here: pip install 'ray[default]'") from error
    try:
        client = JobSubmissionClient()
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"no Ray cluster to submit to ({reason}); start one or set RAY_API_SERVER_ADDRESS") from error
    _warn_if_open(client)
    job = _submit(client, argv)
    print(f"submitted {job}; stop it with: ray job stop {job}", flush=True)
    asyncio.run(_follow(client, job))
    status = client.get_job_status(job)
    print(f"{job}: {status}")
    return 0 if status == "SUCCEEDED" else 1


def _submit(client: Any, argv: Sequence[str]) -> str:
    """Ship this directory and start the job. Returns its ID.

    Raises:
        ConfigError: the directory is larger than the cluster accepts; the message names its largest files.
    """
    folder = Path.cwd()
    variables = {COMMIT_VARIABLE: git_commit(), "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    try:
        job: str = client.submit_job(
            entrypoint=" ".join(["python", "-m", "distcond.train", *map(shlex.quote, argv)]),
            runtime_env={"working_dir": str(folder), "env_vars": variables},
        )
    except (RuntimeError, ValueError) as error:
        if not _TOO_LARGE.search(str(error)):
            raise
        largest = ", ".join(f"{path} ({size / 1e6:.0f} MB)" for path, size in largest_files(folder))
        problem = f"{folder} is larger than the cluster accepts; the largest files: {largest}"
        raise ConfigError(f"{problem}; list what the job does not need in .rayignore or .gitignore") from error
    return job


def _warn_if_open(client: Any) -> None:
    """Warn if other users of this machine may replace what the job ships, where the cluster's head is on this machine.

    Elsewhere the driver warns, in the log of the job.
    """
    try:
        session = str(client._do_request("GET", "/api/version").json().get("session_name", ""))
    except (ConnectionError, RuntimeError, ValueError):
        return
    for folder in session_directories(session):
        if reason := why_open(folder):
            remedy = "start it with --temp-dir below a directory of mode 0700, see docs/security.md"
            print(f"warning: this Ray cluster is open to other users: {reason}; {remedy}", file=sys.stderr)


def session_directories(session: str) -> set[Path]:
    """The directories of a session of Ray, in the command lines of its processes on this machine."""
    pattern = re.compile(rb"=(/[^\0=]*/" + re.escape(session.encode()) + rb")(?=[/\0])")
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            found |= {Path(os.fsdecode(name)) for name in pattern.findall((process / "cmdline").read_bytes())}
    return found if session else set()


def largest_files(folder: Path, count: int = 5) -> list[tuple[str, int]]:
    """(path, bytes) of the largest files that Ray would ship, largest first. Ray ships what git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=folder, capture_output=True
    )
    if listed.returncode == 0:
        paths = [folder / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    else:  # no git checkout: everything is shipped
        paths = list(folder.rglob("*"))
    sizes = [(str(path.relative_to(folder)), path.lstat().st_size) for path in paths if path.is_file()]
    return sorted(sizes, key=lambda item: -item[1])[:count]


async def _follow(client: object, job: str) -> None:
    async for text in client.tail_job_logs(job):  # type: ignore[attr-defined]
        print(text, end="", flush=True)


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))

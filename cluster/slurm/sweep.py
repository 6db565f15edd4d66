"""A sweep directory: the request, written before anything is submitted, and every submission since.

slurm.json           the profile, the command, the commit, the number of runs (sweep.json is distcond.tune's)
runs.jsonl           one line per run: its ID, directory, recipe and overrides
submissions.jsonl    one line before each submission (its runs), one after (its jobs, or the refusal)
jobs/ ended/         output of jobs and submitit's files; how each run's last job ended, for sites without accounting
runs/ gathered/      run directories, unless run_root=DIR puts them elsewhere; the rows of all runs and the report
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.slurm.job_environment import JobEnvironment
from cluster.slurm.profile import Profile, parse_profile, profile_to_dict
from cluster.slurm.runs import Run
from distcond.atomic_io import atomic_write_text, file_lock
from distcond.errors import ConfigError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Sweep:
    """One sweep.

    Attributes:
        path: its directory, absolute.
    """

    path: Path

    @property
    def jobs(self) -> Path:
        """The folder of the jobs' output."""
        return self.path / "jobs"

    @property
    def exists(self) -> bool:
        """Whether there is a sweep in the directory."""
        return (self.path / "slurm.json").exists()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of `slurm.json`.

        Raises:
            ConfigError: no sweep here, or one of another schema version.
        """
        if not self.exists:
            raise ConfigError(f"{self.path}: no sweep here (slurm.json is missing); name the directory of `submit`")
        manifest: dict[str, Any] = json.loads((self.path / "slurm.json").read_text(encoding="utf-8"))
        version = manifest.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ConfigError(f"{self.path}: sweep of schema version {version}; this distcond reads {SCHEMA_VERSION}")
        return manifest

    @cached_property
    def profile(self) -> Profile:
        """The profile as it was when the sweep was created; later changes of its file have no effect."""
        return parse_profile(self.manifest["profile"], f"{self.path}/slurm.json")

    @cached_property
    def runs(self) -> list[Run]:
        """All runs in the order of the grid."""
        self.manifest  # noqa: B018  raises without a sweep
        lines = (self.path / "runs.jsonl").read_text(encoding="utf-8").splitlines()
        return [Run(**json.loads(line)) for line in lines]

    def create(self, runs: Sequence[Run], profile: Profile, **more: Any) -> None:
        """Write `runs.jsonl`, then `slurm.json`, which must never list runs that are not there."""
        lines = "".join(json.dumps(run._asdict()) + "\n" for run in runs)
        atomic_write_text(self.path / "runs.jsonl", lines)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "runs": len(runs),
            "profile": profile_to_dict(profile),
            **more,
        }
        atomic_write_text(self.path / "slurm.json", json.dumps(manifest, indent=1) + "\n")

    def submissions(self) -> list[dict[str, Any]]:
        """Every submission in order: `name`, `runs`, and `jobs` or `refused` where that was recorded."""
        file = self.path / "submissions.jsonl"
        found: dict[str, dict[str, Any]] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a process that was killed while writing
                continue
            found.setdefault(entry["name"], {}).update(entry)
        return list(found.values())

    def record_submission(self, **entry: Any) -> None:
        """Add facts about the submission `name`. They are on disk when this returns."""
        with open(self.path / "submissions.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within the block no other command submits."""
        with file_lock(self.path / ".lock"):
            yield

    def run(self, key: str) -> Run:
        """The run with the number `key` in the table, or the only one whose ID contains `key`.

        Raises:
            ConfigError: none or several.
        """
        if key.isdigit() and int(key) < len(self.runs):
            return self.runs[int(key)]
        found = [run for run in self.runs if key in run.run_id]
        if len(found) != 1:
            numbers = f"a number from 0 to {len(self.runs) - 1}"
            raise ConfigError(f"run {key}: {len(found)} runs of this sweep match; valid: {numbers}, or part of an ID")
        return found[0]


def write_exit_record(sweep: str, run_id: str, job_env: JobEnvironment, status: int | None, why: str) -> None:
    """Record how a run's job ended. `status` is the exit status of `distcond.train`, negative for a signal."""
    record = {"job": job_env.job, "restart": job_env.restart, "status": status, "why": why, "time": time.time()}
    atomic_write_text(Path(sweep) / "ended" / f"{run_id}.json", json.dumps(record) + "\n")


def read_exit_records(sweep: Path) -> dict[str, dict[str, Any]]:
    """The last exit record of every run, by run ID."""
    folder = sweep / "ended"
    files = [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []
    return {file.stem: json.loads(file.read_text()) for file in files}

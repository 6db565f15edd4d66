"""A sweep directory: what was asked for, written before anything is submitted, and every submission since.

slurm.json           the profile, the command, the commit, the number of runs (sweep.json is distcond.tune's)
runs.jsonl           one line a run: its name, directory, recipe and overrides
submissions.jsonl    one line before each submission (its runs), one after (its jobs, or the refusal)
jobs/ ended/         what jobs printed and submitit's files; how each run's last job ended, for sites without accounting
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
from cluster.slurm.profile import Profile, from_plain, to_plain
from cluster.slurm.runs import Run
from distcond.atomic_io import atomic_write_text, file_lock
from distcond.errors import ConfigError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Sweep:
    """One sweep, by its absolute directory."""

    path: Path

    @property
    def jobs(self) -> Path:
        """Where the output of jobs lies."""
        return self.path / "jobs"

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return (self.path / "slurm.json").exists()

    @cached_property
    def about(self) -> dict[str, Any]:
        """What `slurm.json` says.

        Raises:
            ConfigError: there is no sweep, or one that this version cannot read.
        """
        if not self.exists:
            raise ConfigError(f"{self.path}: no sweep here (slurm.json is missing); name the directory of `submit`")
        about: dict[str, Any] = json.loads((self.path / "slurm.json").read_text(encoding="utf-8"))
        if about.get("schema_version") != SCHEMA_VERSION:
            version = about.get("schema_version")
            raise ConfigError(f"{self.path}: sweep of schema version {version}; this distcond reads {SCHEMA_VERSION}")
        return about

    @cached_property
    def profile(self) -> Profile:
        """As it was when the sweep was made: a file that has changed since changes no sweep."""
        return from_plain(self.about["profile"], f"{self.path}/slurm.json")

    @cached_property
    def runs(self) -> list[Run]:
        """In the order of the grid."""
        self.about  # noqa: B018  refuses a directory without a sweep
        lines = (self.path / "runs.jsonl").read_text(encoding="utf-8").splitlines()
        return [Run(**json.loads(line)) for line in lines]

    def create(self, runs: Sequence[Run], profile: Profile, **more: Any) -> None:
        """Write the manifest; `slurm.json` last, so that it never speaks of runs that are not there."""
        lines = "".join(json.dumps(run._asdict()) + "\n" for run in runs)
        atomic_write_text(self.path / "runs.jsonl", lines)
        about = {"schema_version": SCHEMA_VERSION, "runs": len(runs), "profile": to_plain(profile), **more}
        atomic_write_text(self.path / "slurm.json", json.dumps(about, indent=1) + "\n")

    def submissions(self) -> list[dict[str, Any]]:
        """Every submission in its order: `name`, `runs`, and `job` or `refused` where that was written down."""
        file = self.path / "submissions.jsonl"
        found: dict[str, dict[str, Any]] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a process that was killed while it wrote
                continue
            found.setdefault(entry["name"], {}).update(entry)
        return list(found.values())

    def record_submission(self, **entry: Any) -> None:
        """Add to what is known of the submission `name`; on disk when this returns."""
        with open(self.path / "submissions.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One command at a time submits."""
        with file_lock(self.path / ".lock"):
            yield

    def run(self, word: str) -> Run:
        """The run called `word`, its name or an unambiguous part of it, or its number in the table.

        Raises:
            ConfigError: none or several.
        """
        if word.isdigit() and int(word) < len(self.runs):
            return self.runs[int(word)]
        found = [run for run in self.runs if word in run.run_id]
        if len(found) != 1:
            numbers = f"a number from 0 to {len(self.runs) - 1}"
            raise ConfigError(f"run {word}: {len(found)} runs of this sweep are called so; valid: {numbers}, or a name")
        return found[0]


def write_exit_record(sweep: str, run_id: str, place: JobEnvironment, status: int | None, why: str) -> None:
    """Say it; `status` is the exit status of `distcond.train`, negative for a signal."""
    said = {"job": place.job, "restart": place.restart, "status": status, "why": why, "time": time.time()}
    atomic_write_text(Path(sweep) / "ended" / f"{run_id}.json", json.dumps(said) + "\n")


def read_exit_records(sweep: Path) -> dict[str, dict[str, Any]]:
    """What was said, by run."""
    folder = sweep / "ended"
    files = [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []
    return {file.stem: json.loads(file.read_text()) for file in files}

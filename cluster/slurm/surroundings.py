"""The words and variables with which the programs of a job are started, inside a container or not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.slurm.identify import Run
from cluster.slurm.profile import RAY_KEPT, Profile

#: The checkout: what a job runs is what lies here when it runs.
ROOT = Path(__file__).resolve().parents[2]
#: The variable with the time at which a job's script began: its Python comes later, from a slow disk much later.
BEGAN = "DISTCOND_JOB_BEGAN"


def module(name: str, words: Sequence[str], profile: Profile) -> list[str]:
    """`python -m NAME WORDS` as the profile wants it run."""
    box = profile.container
    python = [sys.executable] if box is None else [*box.command(profile.cpus_per_task), box.python]
    return [*python, "-u", "-m", name, *words]


def command(run: Run, profile: Profile) -> list[str]:
    """The run as a command: from its start, or on from where it is."""
    if run.tune:
        begun = Path(run.run_dir, "sweep.json").exists()
        given = any(word.startswith("launch.grace=") for word in run.tune)
        words = [*run.tune, *([] if given else [grace(profile)]), f"dir={run.run_dir}"]
        return module("distcond.tune", ["--resume", run.run_dir] if begun else words, profile)
    return train(run.asked.words(), profile)


def train(words: Sequence[str], profile: Profile) -> list[str]:
    """`distcond.train` with the launcher that the profile's mode stands for."""
    launcher = "ray" if profile.mode == "ray" else "local"
    return module("distcond.train", [*words, f"launch={launcher}", grace(profile)], profile)


def grace(profile: Profile) -> str:
    """The time to save in: that before the limit but for that in which Ray is taken down and the job requeued."""
    seconds = max(profile.signal_seconds / 2, profile.signal_seconds - 20 - (RAY_KEPT if profile.mode == "ray" else 0))
    return f"launch.grace={seconds:g}"


def surroundings(profile: Profile) -> dict[str, str]:
    """The variables of everything that a job starts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(profile.cpus_per_task), **profile.environment}

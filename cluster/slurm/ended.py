"""How a run's last job ended, in its own words: what is left to say where SLURM keeps no accounts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from cluster.slurm.place import Place
from distcond.aside import write_text


def write_end(sweep: str, run_id: str, place: Place, status: int | None, why: str) -> None:
    """Say it; `status` is the exit status of `distcond.train`, negative for a signal."""
    said = {"job": place.job, "restart": place.restart, "status": status, "why": why, "time": time.time()}
    write_text(Path(sweep) / "ended" / f"{run_id}.json", json.dumps(said) + "\n")


def read_ends(sweep: Path) -> dict[str, dict[str, Any]]:
    """What was said, by run."""
    folder = sweep / "ended"
    files = [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []
    return {file.stem: json.loads(file.read_text()) for file in files}

"""End jobs of a sweep and nobody else's."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cluster.slurm.identify import Run
from cluster.slurm.queue import scancel
from cluster.slurm.state import standings
from cluster.slurm.sweep import Sweep


def cancel(sweep: Sweep, runs: Sequence[Run]) -> int:
    """End the jobs of these runs that run or wait; how many. What a run has written stays, and `retry` goes on.

    Raises:
        ConfigError: SLURM does not answer.
    """
    wanted = {run.run_id for run in runs}
    ids = [
        one.job for one in standings(sweep) if one.run.run_id in wanted and one.state in ("running", "waiting")
    ]  # fmt: skip
    if not ids:
        return 0
    if sweep.profile.executor == "slurm":
        scancel(ids)
    else:
        for process in ids:
            for told in below(process) or [int(process)]:
                with suppress(ProcessLookupError):
                    os.kill(told, signal.SIGTERM)
    return len(ids)


def below(process: str) -> list[int]:
    """The children of a local job's shell: submitit's controller, which passes SIGTERM on; the shell would not."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []

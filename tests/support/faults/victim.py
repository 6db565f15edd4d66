"""A small run that is started again and again until it is finished, and what can be seen of it meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from distcond.runs.attempts import last_attempt
from support.leftovers import processes_with

ROOT = Path(__file__).parents[3]
#: The script of a run, and where the methods with a fault are.
SCRIPT = ROOT / "tests" / "support" / "launch_run.py"
LAUNCH = ROOT / "tests" / "launch"

#: A start that takes longer counts as hanging.
BOUND = 300.0

#: What stands for its exit status then. Signals are -N, so that none is that low.
HUNG = -100

#: Seconds in which everything of a run is gone once its driver is.
GONE = 90.0

SETTINGS = (
    "method=faulty:METHOD", "epochs=3", "train_examples=640", "batch_size=64", "model.widths=8,16",
    "attack.num_steps=2", "eval.every=1", "save_steps=7", "launch.timeout=30",
)  # fmt: skip


@dataclass
class Victim:
    """One run under `launcher` ("local" or "ray"): its directory, its processes, and how its starts ended.

    `folder` has a short path (Ray's sockets lie below it); `store` is where the run directory lies.
    """

    launcher: str
    loader: str
    folder: Path
    store: Path
    environment: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def path(self) -> Path:
        return self.store / "run"

    def start(self) -> None:
        """Start it, or start it again."""
        with open(self.folder / "output.txt", "w") as log:
            self.process = subprocess.Popen(
                self._command(), env=self._environment(), cwd=self.folder, stdout=log, stderr=log, text=True
            )

    def end(self) -> int:
        """Its exit status; HUNG if it hangs. Kills what is left then."""
        assert self.process is not None
        try:
            status = self.process.wait(timeout=BOUND)
        except subprocess.TimeoutExpired:
            status = HUNG
        self.statuses.append(status)
        self.output.append((self.folder / "output.txt").read_text())
        return status

    def left(self) -> list[str]:
        """Names of its processes that are there long after its driver's end."""
        deadline = time.monotonic() + GONE
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kill_all()
        return sorted(found.values())

    def processes(self) -> dict[int, str]:
        """Everything that was started for it."""
        return processes_with(f"TMPDIR={self.folder}")

    def workers(self) -> list[int]:
        """Process ids of its workers, by id."""
        if self.launcher == "ray":
            return sorted(p for p, name in self.processes().items() if name.startswith("ray::RayTrain"))
        return sorted(set(self.processes()) & {p for rank in "01" for p in processes_with(f"RANK={rank}")})

    def wait_for_step(self, step: int) -> None:
        """Until the first worker has begun so many steps, or the run ends; 0: until the workers have begun at all."""
        assert self.process is not None
        file = self.folder / "steps" if step else self.path / "attempt.json"
        while self.process.poll() is None and not (file.exists() and file.stat().st_size >= step):
            time.sleep(0.005)

    def steps(self) -> int:
        """How many steps its first worker has begun in all."""
        file = self.folder / "steps"
        return file.stat().st_size if file.exists() else 0

    def wait_for_restart(self, attempt: int | None) -> int:
        """Until its workers were started again since `attempt`, or the run ends; its steps by then."""
        assert self.process is not None
        while self.process.poll() is None and last_attempt(self.path) == attempt:
            time.sleep(0.02)
        return self.steps()

    def kill_all(self) -> None:
        """Kill every process of it."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def wait_for_workers(self, source: random.Random) -> int | None:
        """One of its two workers once both are there; None if the run ended first."""
        assert self.process is not None
        while len(found := self.workers()) < 2:
            if self.process.poll() is not None:
                return None
            time.sleep(0.02)
        return source.choice(found)

    def _command(self) -> list[str]:
        words = [str(SCRIPT), str(self.path), f"data.cache_dir={self.folder.parent / 'cache'}"]
        words += [*SETTINGS, f"data.loader={self.loader}", f"launch={self.launcher}"]
        if self.launcher == "ray":
            return [sys.executable, *words, "launch.workers=2"]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
        return [sys.executable, *torchrun, *words]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONDONTWRITE"))}
        paths = os.pathsep.join([str(ROOT), str(LAUNCH)])
        own = {"TMPDIR": str(self.folder), "PYTHONPATH": paths, "FAULT_ONCE": str(self.folder / "fault")}
        own |= {"FAULT_STEPS": str(self.folder / "steps"), "FAULT_PACE": "0.05", "RAY_memory_monitor_refresh_ms": "0"}
        return kept | own | self.environment

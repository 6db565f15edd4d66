"""A small run that is restarted until it is finished, and its observable state."""

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
#: The script of a run, and the directory of the methods with a fault.
SCRIPT = ROOT / "tests" / "support" / "launch_run.py"
LAUNCH = ROOT / "tests" / "launch"

#: Seconds after which a start counts as hung.
BOUND = 300.0

#: The exit status of a hung start. Signals are -N, and no N is that large.
HUNG = -100

#: Seconds within which all processes of a run end after its driver.
GONE = 90.0

SETTINGS = (
    "method=faulty:METHOD", "epochs=3", "train_examples=640", "batch_size=64", "model.widths=8,16",
    "attack.num_steps=2", "eval.every=1", "save_steps=7", "launch.timeout=30",
)  # fmt: skip


@dataclass
class Victim:
    """One run under `launcher` ("local" or "ray"): its directory, its processes, and the ends of its starts.

    `folder` has a short path, for Ray's sockets; `store` contains the run directory.
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
        """Start or restart it."""
        with open(self.folder / "output.txt", "w") as log:
            self.process = subprocess.Popen(
                self._command(), env=self.full_environment(), cwd=self.folder, stdout=log, stderr=log, text=True
            )

    def end(self) -> int:
        """Wait for its exit status; HUNG after `BOUND` seconds."""
        assert self.process is not None
        try:
            status = self.process.wait(timeout=BOUND)
        except subprocess.TimeoutExpired:
            status = HUNG
        self.statuses.append(status)
        self.output.append((self.folder / "output.txt").read_text())
        return status

    def left(self) -> list[str]:
        """Names of its processes that are still running long after its driver ended; kills them."""
        deadline = time.monotonic() + GONE
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kill_all()
        return sorted(found.values())

    def processes(self) -> dict[int, str]:
        """All processes started for it."""
        return processes_with(f"TMPDIR={self.folder}")

    def workers(self) -> list[int]:
        """Process IDs of its workers, sorted."""
        if self.launcher == "ray":
            return sorted(p for p, name in self.processes().items() if name.startswith("ray::RayTrain"))
        return sorted(set(self.processes()) & {p for rank in "01" for p in processes_with(f"RANK={rank}")})

    def wait_for_step(self, step: int) -> None:
        """Wait until the first worker has started so many steps, or the run ends; 0: until the workers have started."""
        assert self.process is not None
        file = self.folder / "steps" if step else self.path / "attempt.json"
        while self.process.poll() is None and not (file.exists() and file.stat().st_size >= step):
            time.sleep(0.005)

    def steps(self) -> int:
        """The number of steps that its first worker has started in total."""
        file = self.folder / "steps"
        return file.stat().st_size if file.exists() else 0

    def wait_for_restart(self, attempt: int | None) -> int:
        """Wait until its workers were restarted since `attempt`, or the run ends; its steps by then."""
        assert self.process is not None
        while self.process.poll() is None and last_attempt(self.path) == attempt:
            time.sleep(0.02)
        return self.steps()

    def kill_all(self) -> None:
        """Kill all its processes."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def wait_for_workers(self, source: random.Random) -> int | None:
        """A random one of its two workers, once both are running; None if the run ended first."""
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

    def full_environment(self) -> dict[str, str]:
        """The environment of its processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONDONTWRITE"))}
        paths = os.pathsep.join([str(ROOT), str(LAUNCH)])
        own = {"TMPDIR": str(self.folder), "PYTHONPATH": paths, "FAULT_ONCE": str(self.folder / "fault")}
        own |= {"FAULT_STEPS": str(self.folder / "steps"), "FAULT_PACE": "0.05", "RAY_memory_monitor_refresh_ms": "0"}
        return kept | own | self.environment

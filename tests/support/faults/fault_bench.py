"""Injects faults into a run and checks everything that must hold afterwards."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distcond.results import history
from distcond.results.store import part_files
from distcond.runs.attempts import last_attempt
from distcond.runs.run_dir import RunDir
from distcond.training.progress import read_progress
from support.faults.kinds import KINDS, Scene
from support.faults.storage import Storage
from support.faults.victim import HUNG, Victim
from support.ray_nodes import RayNodes
from support.same_run import last_checkpoint

#: Steps of a run. A fault comes up to DELAY seconds after one of them, or after the start of the workers.
STEPS = 30
DELAY = 0.5

#: Starts of one run, the first included.
MAX_STARTS = 4


class FaultCase(NamedTuple):
    """One fault in one run."""

    kind: str
    launcher: str
    loader: str


class FaultSequence(NamedTuple):
    """Faults of one run, by start; the last fault of each start ends it.

    Attributes:
        disk: Whether the run is on its own disk.
    """

    starts: Sequence[Sequence[str]]
    launcher: str
    loader: str
    disk: bool


class FaultBench:
    """Runs fault cases and sequences in a folder. The first one also trains an undisturbed reference."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cases = folder, 0
        self._reference_path = folder / "reference"

    def run_case(self, case: FaultCase, source: random.Random) -> dict[str, Any]:
        """Run a case; its outcome as plain values, with "ok" if every check passed."""
        if not self._reference_path.exists():
            self._train_reference(case.loader)
        while True:  # the run may end before the random moment of the fault
            self.cases += 1
            with self._scene(case, source) as scene:
                outcome = self._inject(case, scene)
            if outcome is not None:
                return {**case._asdict(), **outcome}

    def run_sequence(self, sequence: FaultSequence, source: random.Random) -> dict[str, Any]:
        """Run a sequence; its outcome as plain values, with "ok" if every check passed."""
        if not self._reference_path.exists():
            self._train_reference(sequence.loader)
        self.cases += 1
        kinds = [kind for start in sequence.starts for kind in start]
        with self._scene(FaultCase(kinds[0], sequence.launcher, sequence.loader), source, disk=sequence.disk) as scene:
            stages, left = [], list[str]()
            for start in sequence.starts:
                stages += self._start_with(start, scene)
                left += scene.victim.left() if sequence.launcher == "ray" else []
                scene.victim.kill_all()  # as a scheduler does after torchrun fails
                for kind in start:
                    KINDS[kind].repair(scene)
            scene.victim.start()
            wrong = [] if scene.victim.end() == 0 else ["not finished"]
            left += scene.victim.left()
            wrong += wrong or self._wrong(scene.victim.path)
            wrong += [kind for kind, stage in zip(kinds, stages, strict=True) if not stage]
            wrong += ["a start survived its last fault"] if 0 in scene.victim.statuses[:-1] else []
            wrong += ["hung"] if HUNG in scene.victim.statuses else []
            return {
                **sequence._asdict(), "stages": stages, "statuses": scene.victim.statuses, "left_running": left,
                "wrong": wrong, "attempts": last_attempt(scene.victim.path), "ok": not (left or wrong),
                "last_lines": list(map(_last_line, scene.victim.output[:-1])), "output": scene.victim.output,
            }  # fmt: skip

    def _start_with(self, kinds: Sequence[str], scene: Scene) -> list[str]:
        """One start with these faults in order; the stage of the run at each fault, "" if the run had ended."""
        victim, stages, attempt = scene.victim, list[str](), None
        if KINDS[kinds[0]].prepare(scene.source):  # the run raises it itself
            victim.environment["FAULT_STEP"] = str(scene.source.randint(2, 4))
        base = victim.steps()
        victim.start()
        for number, kind in enumerate(kinds):
            if number:
                base = victim.wait_for_restart(attempt)
            internal = bool(KINDS[kind].prepare(scene.source))
            victim.wait_for_step(base + (1 if internal else scene.source.randint(2, 4)))
            time.sleep(0 if internal else DELAY * scene.source.random())
            attempt, stage = last_attempt(victim.path), _stage(victim.path)
            stages.append(stage if KINDS[kind].inject(scene) else "")
        victim.end()
        return stages

    def _inject(self, case: FaultCase, scene: Scene) -> dict[str, Any] | None:
        """Start the run, inject the fault and finish the run; None if the run ended before the fault."""
        kind, victim = KINDS[case.kind], scene.victim
        step, delay = scene.source.randint(0, STEPS - 1), DELAY * scene.source.random()
        victim.start()
        if not kind.prepare(scene.source):
            victim.wait_for_step(step)
            time.sleep(delay)
        stage = _stage(victim.path)
        if RunDir(victim.path).finished or not kind.inject(scene):
            victim.end()
            return None
        left = self._finish(case, scene)
        wrong = self._wrong(victim.path) if victim.statuses[-1] == 0 else ["not finished"]
        wrong += ["hung"] if HUNG in victim.statuses else []
        lines = [_last_line(text) for text in victim.output[:-1]]
        if kind.prepare(scene.source):
            step, delay, stage = int(victim.environment["FAULT_STEP"]), 0.0, "-"
        return {
            "step": step, "delay": round(delay, 2), "stage": stage, "statuses": victim.statuses,
            "attempts": last_attempt(victim.path), "last_lines": lines, "left_running": left, "wrong": wrong,
            "ok": not (left or wrong),
        }  # fmt: skip

    def _finish(self, case: FaultCase, scene: Scene) -> list[str]:
        """Restart the run until it is finished; the processes that each start left running."""
        victim, left = scene.victim, []
        while victim.end() != 0 and len(victim.statuses) < MAX_STARTS:
            left += victim.left() if case.launcher == "ray" and not KINDS[case.kind].nodes else []
            victim.kill_all()  # as a scheduler does after torchrun fails
            KINDS[case.kind].repair(scene)
            victim.start()
        if KINDS[case.kind].nodes:
            return left
        return left + victim.left()

    def _wrong(self, path: Path) -> list[str]:
        """The differences from the undisturbed run."""
        reference = self._reference_path
        wrong = [] if last_checkpoint(path) == last_checkpoint(reference) else ["weights"]
        rows, other = _rows(path), _rows(reference)
        wrong += ["rows doubled"] if max(rows.values()) > 1 else []
        wrong += ["rows lost or changed"] if rows != other else []
        epochs = [[record["epoch"] for record in history.read(run)] for run in (path, reference)]
        return wrong + (["history"] if epochs[0] != epochs[1] else [])

    def _train_reference(self, loader: str) -> None:
        """Train the undisturbed run."""
        self.cases += 1
        with self._scene(FaultCase("worker SIGKILL", "local", loader), random.Random(0)) as scene:
            scene.victim.start()
            assert scene.victim.end() == 0, scene.victim.output
            shutil.copytree(scene.victim.path, self._reference_path)

    @contextlib.contextmanager
    def _scene(self, case: FaultCase, source: random.Random, disk: bool = False) -> Iterator[Scene]:
        folder, kind = self.folder / str(self.cases), KINDS[case.kind]
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(Storage(folder)) if kind.disk or disk else None
            victim = Victim(case.launcher, case.loader, folder, own.path if own else folder)
            victim.environment |= kind.prepare(random.Random(source.random()))
            nodes = stack.enter_context(_nodes(folder, victim)) if kind.nodes else None
            stack.callback(victim.kill_all)
            yield Scene(victim, own, nodes, source)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _nodes(folder: Path, victim: Victim) -> Iterator[RayNodes]:
    place = folder / "n"
    place.mkdir()
    # Not the run's TMPDIR, which identifies the run's processes.
    with RayNodes(place, {**victim.full_environment(), "TMPDIR": str(place)}) as nodes:
        nodes.add(2)
        victim.environment |= nodes.joining | {"TMPDIR": str(folder)}
        yield nodes


def _rows(path: Path) -> Counter[tuple[Any, ...]]:
    """How often each result is in the run's files, without the fields on who counted it."""
    import pyarrow.parquet

    names = "split", "checkpoint", "epoch", "lam", "width", "attack", "noise_mode", "num_correct", "num_examples"
    found: Counter[tuple[Any, ...]] = Counter()
    for part in part_files(path):
        with pyarrow.parquet.ParquetFile(part) as file:
            found.update(tuple(record[name] for name in names) for record in file.read().to_pylist())
    return found


def _stage(path: Path) -> str:
    """The stage that the run reports."""
    progress = read_progress(path)
    if progress is None:
        return "starting"
    step = f" step {progress['step']}" if "step" in progress else ""
    return f"{progress['stage']} epoch {progress.get('epoch', 0)}{step}"


def _last_line(output: str) -> str:
    """The line with the result of a start; torchrun prints a report of its own below it."""
    lines = [line for line in output.splitlines() if line.startswith(("failed:", "error:", "stopped:"))]
    return lines[-1] if lines else ""

"""One fault done to one run, and everything that must hold afterwards."""

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
from support.same_end import checkpoint

#: Steps of a run. A fault comes up to so many seconds after one of them, or after the first worker is there.
STEPS = 30
DELAY = 0.5

#: Starts of one run by hand, the first included.
STARTS = 4


class Turn(NamedTuple):
    """What happens to which run."""

    kind: str
    launcher: str
    loader: str


class Tour(NamedTuple):
    """What happens to one run, start after start; a start meets its faults one after the other, and ends by the last.

    Attributes:
        disk: whether it lies on a disk of its own.
    """

    starts: Sequence[Sequence[str]]
    launcher: str
    loader: str
    disk: bool


class Bench:
    """Where turns and tours happen. The first one also runs what nothing happens to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.turns = folder, 0
        self._untouched = folder / "untouched"

    def outcome(self, turn: Turn, source: random.Random) -> dict[str, Any]:
        """Do a turn; what happened as plain values, "ok" if all that must hold held."""
        if not self._untouched.exists():
            self._reference(turn.loader)
        while True:  # the run may be over before its random moment
            self.turns += 1
            with self._scene(turn, source) as scene:
                found = self._struck(turn, scene)
            if found is not None:
                return {**turn._asdict(), **found}

    def tour(self, tour: Tour, source: random.Random) -> dict[str, Any]:
        """Do a tour; what happened as plain values, "ok" if all that must hold held."""
        if not self._untouched.exists():
            self._reference(tour.loader)
        self.turns += 1
        kinds = [kind for start in tour.starts for kind in start]
        with self._scene(Turn(kinds[0], tour.launcher, tour.loader), source, disk=tour.disk) as scene:
            met, left = [], list[str]()
            for start in tour.starts:
                met += self._start_of(start, scene)
                left += scene.victim.left() if tour.launcher == "ray" else []
                scene.victim.kill_all()  # under torchrun: what a scheduler would do
                for kind in start:
                    KINDS[kind].mend(scene)
            scene.victim.start()
            wrong = [] if scene.victim.end() == 0 else ["not finished"]
            left += scene.victim.left()
            wrong += wrong or self._wrong(scene.victim.path)
            wrong += [kind for kind, at in zip(kinds, met, strict=True) if not at]
            wrong += ["a start went on"] if 0 in scene.victim.statuses[:-1] else []
            wrong += ["hung"] if HUNG in scene.victim.statuses else []
            return {
                **tour._asdict(), "met": met, "statuses": scene.victim.statuses, "left": left, "wrong": wrong,
                "attempts": last_attempt(scene.victim.path), "said": list(map(_last_word, scene.victim.output[:-1])),
                "ok": not (left or wrong), "output": scene.victim.output,
            }  # fmt: skip

    def _start_of(self, kinds: Sequence[str], scene: Scene) -> list[str]:
        """One start that meets these faults, one after the other; what it was doing when each struck."""
        victim, met, attempt = scene.victim, list[str](), None
        if KINDS[kinds[0]].prepare(scene.source):  # it happens by itself
            victim.environment["FAULT_STEP"] = str(scene.source.randint(2, 4))
        base = victim.steps()
        victim.start()
        for number, kind in enumerate(kinds):
            if number:
                base = victim.wait_for_restart(attempt)
            by_itself = bool(KINDS[kind].prepare(scene.source))
            victim.wait_for_step(base + (1 if by_itself else scene.source.randint(2, 4)))
            time.sleep(0 if by_itself else DELAY * scene.source.random())
            attempt, at = last_attempt(victim.path), _where(victim.path)
            met.append(at if KINDS[kind].strike(scene) else "")
        victim.end()
        return met

    def _struck(self, turn: Turn, scene: Scene) -> dict[str, Any] | None:
        kind, victim = KINDS[turn.kind], scene.victim
        step, delay = scene.source.randint(0, STEPS - 1), DELAY * scene.source.random()
        victim.start()
        if not kind.prepare(scene.source):
            victim.wait_for_step(step)
            time.sleep(delay)
        at = _where(victim.path)
        if RunDir(victim.path).finished or not kind.strike(scene):
            victim.end()
            return None
        left = self._to_the_end(turn, scene)
        wrong = self._wrong(victim.path) if victim.statuses[-1] == 0 else ["not finished"]
        wrong += ["hung"] if HUNG in victim.statuses else []
        lines = [_last_word(text) for text in victim.output[:-1]]
        if kind.prepare(scene.source):
            step, delay, at = int(victim.environment["FAULT_STEP"]), 0.0, "-"  # it happens by itself
        return {
            "step": step, "delay": round(delay, 2), "at": at, "statuses": victim.statuses,
            "attempts": last_attempt(victim.path), "said": lines, "left": left, "wrong": wrong,
            "ok": not (left or wrong),
        }  # fmt: skip

    def _to_the_end(self, turn: Turn, scene: Scene) -> list[str]:
        """Start again until it is finished; what each start left running."""
        victim, left = scene.victim, []
        while victim.end() != 0 and len(victim.statuses) < STARTS:
            left += victim.left() if turn.launcher == "ray" and not KINDS[turn.kind].nodes else []
            victim.kill_all()  # under torchrun: what a scheduler would do
            KINDS[turn.kind].mend(scene)
            victim.start()
        if KINDS[turn.kind].nodes:
            return left
        return left + victim.left()

    def _wrong(self, path: Path) -> list[str]:
        """What is not as in the run that nothing happened to."""
        wanted = self._untouched
        wrong = [] if checkpoint(path) == checkpoint(wanted) else ["weights"]
        rows, other = _rows(path), _rows(wanted)
        wrong += ["rows doubled"] if max(rows.values()) > 1 else []
        wrong += ["rows lost or changed"] if rows != other else []
        epochs = [[record["epoch"] for record in history.read(run)] for run in (path, wanted)]
        return wrong + (["history"] if epochs[0] != epochs[1] else [])

    def _reference(self, loader: str) -> None:
        """The run that nothing happens to."""
        self.turns += 1
        with self._scene(Turn("worker SIGKILL", "local", loader), random.Random(0)) as scene:
            scene.victim.start()
            assert scene.victim.end() == 0, scene.victim.output
            shutil.copytree(scene.victim.path, self._untouched)

    @contextlib.contextmanager
    def _scene(self, turn: Turn, source: random.Random, disk: bool = False) -> Iterator[Scene]:
        folder, kind = self.folder / str(self.turns), KINDS[turn.kind]
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(Storage(folder)) if kind.disk or disk else None
            victim = Victim(turn.launcher, turn.loader, folder, own.path if own else folder)
            victim.environment |= kind.prepare(random.Random(source.random()))
            nodes = stack.enter_context(_nodes(folder, victim)) if kind.nodes else None
            stack.callback(victim.kill_all)
            yield Scene(victim, own, nodes, source)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _nodes(folder: Path, victim: Victim) -> Iterator[RayNodes]:
    place = folder / "n"
    place.mkdir()
    # Not the run's TMPDIR: what runs there is not the run's.
    with RayNodes(place, {**victim._environment(), "TMPDIR": str(place)}) as nodes:
        nodes.add(2)
        victim.environment |= nodes.joining | {"TMPDIR": str(folder)}
        yield nodes


def _rows(path: Path) -> Counter[tuple[Any, ...]]:
    """How often each result lies in the run's files: what it is of, and what was counted; not who counted it."""
    import pyarrow.parquet

    names = "split", "checkpoint", "epoch", "lam", "width", "attack", "noise_mode", "num_correct", "num_examples"
    found: Counter[tuple[Any, ...]] = Counter()
    for part in part_files(path):
        with pyarrow.parquet.ParquetFile(part) as file:
            found.update(tuple(record[name] for name in names) for record in file.read().to_pylist())
    return found


def _where(path: Path) -> str:
    """What the run says it was doing."""
    progress = read_progress(path)
    if progress is None:
        return "starting"
    step = f" step {progress['step']}" if "step" in progress else ""
    return f"{progress['stage']} epoch {progress.get('epoch', 0)}{step}"


def _last_word(output: str) -> str:
    """The line with which a start says how it ended; below it torchrun prints a report of its own."""
    said = [line for line in output.splitlines() if line.startswith(("failed:", "error:", "stopped:"))]
    return said[-1] if said else ""

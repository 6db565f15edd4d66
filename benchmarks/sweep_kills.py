"""Kill sweeps at random moments and resume them: `python benchmarks/sweep_kills.py FOLDER [--kills 30] [--seed 0]`.

A sweep of four short runs with ASHA is killed (SIGKILL) when a random number of epochs is recorded and up to a second
has passed: its driver, one of its trials' processes, or everything in turn. Then it is resumed, and checked against
what lay on disk at the kill and against an undisturbed sweep: it completes, no epoch with a checkpoint is trained
twice, and the rows of trials that finished in both are the same. Prints a line per kill; the exit status is 1 if a
check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs.attempts import epochs_done
from distcond.runs.run_dir import RunDir
from distcond.tuning.sweep_report.read import read_sweep

KINDS = ("driver", "worker", "all")

#: An environment variable by which all processes of a sweep are found.
MARK = "DISTCOND_KILLS"

SPACE = """
question = "Which learning rate?"
recipe = "float_digits"
trials = 4

[space."optim.lr"]
kind = "loguniform"
low = 0.01
high = 0.3
"""

SETTINGS = (
    "scheduler=asha", "grace=1", "reduction=2", "epochs=4", "train_examples=512", "batch_size=32",
    "model.widths=8,16", "attack.num_steps=5", "eval.every=1", "eval.lam_grid=0,1", "eval.val_examples=32",
    "eval.val_steps=1", "eval.test_examples=32", "eval.attack.num_steps=1", "eval.train_examples=0",
    "eval.sentinel=off", "data.loader=memory", "save_minutes=0.01",
)  # fmt: skip

#: Seconds for one start of a sweep on a busy machine.
LIMIT = 900.0

Rows = dict[str, list[tuple[object, ...]]]


def main(argv: list[str]) -> int:
    """Run the kills; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    folder, chance = options.folder.absolute(), random.Random(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.toml").write_text(SPACE)
    _start(folder, "undisturbed").wait(LIMIT)
    expected, failed = _finished_rows(folder / "undisturbed"), 0
    for number in range(options.kills):
        kind, epochs = KINDS[number % len(KINDS)], chance.randrange(1, 7)
        problems = _kill_and_resume(folder, f"kill-{number:02d}", kind, epochs, chance.random(), expected)
        print(f"{number:2d} {kind} at {epochs} epochs: {'; '.join(problems) or 'good'}", flush=True)
        failed += bool(problems)
    print(f"{options.kills - failed} of {options.kills} good")
    return int(failed > 0)


def _kill_and_resume(folder: Path, name: str, kind: str, epochs: int, delay: float, expected: Rows) -> list[str]:
    """One sweep with one kill. Returns what is wrong."""
    sweep = folder / name
    shutil.rmtree(sweep, ignore_errors=True)
    process, began = _start(folder, name), time.monotonic()
    while process.poll() is None and _recorded(sweep) < epochs and time.monotonic() - began < LIMIT:
        time.sleep(0.05)
    time.sleep(delay)
    for victim in _victims(process, folder, kind):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    before = _with_checkpoint(sweep)
    if kind == "worker":
        status = process.wait(LIMIT)
    else:
        process.wait(LIMIT)
        status = _start(folder, "--resume", name).wait(LIMIT) if (sweep / "sweep.json").exists() else 0
    problems = [] if status == 0 else [f"exit status {status}"]
    states = [trial.state for trial in read_sweep(sweep).trials]
    if len(states) != 4 or not set(states) <= {"finished", "stopped"}:
        problems.append(f"states {states}")
    after = _with_checkpoint(sweep)
    again = [f"{run} epoch {epoch}" for run, epoch in before if after.get((run, epoch)) != before[run, epoch]]
    problems += [f"trained again: {one}" for one in again]
    rows = _finished_rows(sweep)
    problems += [f"other rows: {run}" for run in rows.keys() & expected.keys() if rows[run] != expected[run]]
    return problems


def _start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`python -m distcond.tune` for a new sweep of that name, or with these arguments."""
    if len(arguments) == 1:
        arguments = ("space.toml", f"dir={arguments[0]}", f"data.cache_dir={folder / 'cache'}", *SETTINGS)
    with open(folder / "log.txt", "ab") as log:
        environment = {**os.environ, MARK: str(folder)}
        command = [sys.executable, "-m", "distcond.tune", *arguments]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def _victims(process: subprocess.Popen[bytes], folder: Path, kind: str) -> list[int]:
    if kind == "driver":
        return [process.pid]
    mark, found = f"{MARK}={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    if kind == "all":
        return found
    return [one for one in found if _title(one).startswith("ray::distcond")][:1]


def _title(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def _runs(sweep: Path) -> list[Path]:
    return [path for path in sorted((sweep / "runs").glob("[!.]*")) if path.is_dir()]


def _recorded(sweep: Path) -> int:
    return sum(len(history.read(run)) for run in _runs(sweep))


def _with_checkpoint(sweep: Path) -> dict[tuple[str, int], str]:
    """Every epoch that a checkpoint covers, with its record, which has the seconds it took."""
    return {
        (run.name, record["epoch"]): json.dumps(record, sort_keys=True)
        for run in _runs(sweep)
        for record in history.read(run)
        if record["epoch"] <= epochs_done(run)
    }


def _finished_rows(sweep: Path) -> Rows:
    return {
        run.name: sorted(
            (row.split, row.checkpoint, row.epoch, row.lam, row.attack, row.num_correct) for row in read_rows(run)
        )
        for run in _runs(sweep)
        if RunDir(run).finished
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

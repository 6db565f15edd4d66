"""FLOAT with a fault: `method=faulty:METHOD` does in one worker and step what the environment says.

FAULT is "exit" (the process dies), "kill" (by SIGKILL), "stop" (it sends itself SIGTERM), "insist" (twice), "desert"
(it dies, and the other of two ranks sleeps, where no closed socket wakes it), "raise" (a ValueError), "chance" (a
RuntimeError, which a restart may mend) or "wait" (it sleeps); FAULT_STEP the first step, counted in each worker
process; FAULT_ONCE a file, made by the first fault, after which there is none;
FAULT_RANK whose (1). FAULT_SLOW names a file without which every step takes FAULT_SLOW_SECONDS (half a second): a run
that is to be met in the middle on any machine. FAULT_PACE is a number of seconds that every step takes besides.
FAULT_STEPS names a file that grows by a byte a step, COUNT_RAY one for how often the training called Ray (`calls.py`).

A Ray that was there before knows nothing of a test's environment but PYTHONPATH: a `faults.json` there says the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import calls

from distcond.methods.float import METHOD as FLOAT

#: Seconds that who is deserted sleeps: longer than any test waits.
SLEEP = 3600.0

#: What a process sends itself.
_SIGNALS = {"kill": [signal.SIGKILL], "stop": [signal.SIGTERM], "insist": [signal.SIGTERM, signal.SIGTERM]}

_steps = 0


def _said() -> dict[str, str]:
    """What is to happen: the environment, and `faults.json`."""
    said = dict(os.environ)
    for folder in sys.path:
        file = Path(folder, "faults.json")
        if file.exists():
            said |= json.loads(file.read_text())
    return said


def fault() -> None:
    global _steps
    _steps += 1
    said, rank = _said(), os.environ.get("RANK", "0")
    if "FAULT_STEPS" in said and rank == "0":
        with open(said["FAULT_STEPS"], "a") as file:
            file.write(".")
    if "COUNT_RAY" in said:
        calls.watch(_steps, Path(said["COUNT_RAY"]))
    if "FAULT_SLOW" in said and not Path(said["FAULT_SLOW"]).exists():
        time.sleep(float(said.get("FAULT_SLOW_SECONDS", "0.5")))
    time.sleep(float(said.get("FAULT_PACE", "0")))
    if "FAULT" not in said:
        return
    once, chosen = Path(said["FAULT_ONCE"]), rank == said.get("FAULT_RANK", "1")
    if _steps < int(said["FAULT_STEP"]) or once.exists():
        return
    if said["FAULT"] == "desert":
        _desert(chosen, once.with_suffix(".asleep"))
    if chosen:
        once.touch()
        _happen(said["FAULT"], rank)


def _happen(what: str, rank: str) -> None:
    if what in _SIGNALS:
        for number in _SIGNALS[what]:
            os.kill(os.getpid(), number)
        return
    if what in ("exit", "desert"):
        os._exit(7)
    if what == "wait":
        time.sleep(SLEEP)
    if what == "chance":
        raise RuntimeError(f"the chance fault of worker {rank}")
    raise ValueError(f"the fault of worker {rank}")


def _desert(chosen: bool, asleep: Path) -> None:
    """Of two ranks: the other says that it sleeps, and sleeps; the chosen one waits until it does."""
    if not chosen:
        asleep.touch()
        time.sleep(SLEEP)
    while not asleep.exists():
        time.sleep(0.1)


def objective(options: Any) -> Any:
    inner = FLOAT.objective(options)

    def faulty(*arguments: Any) -> Any:
        fault()
        return inner(*arguments)

    return faulty


METHOD = dataclasses.replace(FLOAT, name="faulty", objective=objective)

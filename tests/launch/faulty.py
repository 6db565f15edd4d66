"""FLOAT with a fault in one worker and step: `method=faulty:METHOD`, configured by environment variables.

FAULT           "exit" (the process exits), "kill" (SIGKILL), "stop" (it sends itself SIGTERM), "insist" (twice),
                "desert" (it exits while the other of two ranks sleeps outside any collective), "raise" (ValueError),
                "chance" (a RuntimeError, which a restart may fix) or "wait" (it sleeps)
FAULT_STEP      the first step at which it happens, counted in each worker process
FAULT_ONCE      a file that the first fault creates; with it there are no more faults
FAULT_RANK      the rank (1)
FAULT_SLOW      a file without which every step takes FAULT_SLOW_SECONDS (0.5): tests then meet the run while it trains
FAULT_PACE      seconds added to every step
FAULT_STEPS     a file that grows by one byte per step
COUNT_RAY       a file for the number of calls to Ray (`calls.py`)

Workers of an existing Ray cluster get only PYTHONPATH from a test. A `faults.json` there has the same variables.
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

#: Seconds to sleep: longer than any test waits.
SLEEP = 3600.0

#: Signals that the process sends itself.
_SIGNALS = {"kill": [signal.SIGKILL], "stop": [signal.SIGTERM], "insist": [signal.SIGTERM, signal.SIGTERM]}

_steps = 0


def _read_variables() -> dict[str, str]:
    """The environment and `faults.json`."""
    variables = dict(os.environ)
    for folder in sys.path:
        file = Path(folder, "faults.json")
        if file.exists():
            variables |= json.loads(file.read_text())
    return variables


def fault() -> None:
    global _steps
    _steps += 1
    variables, rank = _read_variables(), os.environ.get("RANK", "0")
    if "FAULT_STEPS" in variables and rank == "0":
        with open(variables["FAULT_STEPS"], "a") as file:
            file.write(".")
    if "COUNT_RAY" in variables:
        calls.watch(_steps, Path(variables["COUNT_RAY"]))
    if "FAULT_SLOW" in variables and not Path(variables["FAULT_SLOW"]).exists():
        time.sleep(float(variables.get("FAULT_SLOW_SECONDS", "0.5")))
    time.sleep(float(variables.get("FAULT_PACE", "0")))
    if "FAULT" not in variables:
        return
    once, chosen = Path(variables["FAULT_ONCE"]), rank == variables.get("FAULT_RANK", "1")
    if _steps < int(variables["FAULT_STEP"]) or once.exists():
        return
    if variables["FAULT"] == "desert":
        _desert(chosen, once.with_suffix(".asleep"))
    if chosen:
        once.touch()
        _fail(variables["FAULT"], rank)


def _fail(kind: str, rank: str) -> None:
    if kind in _SIGNALS:
        for number in _SIGNALS[kind]:
            os.kill(os.getpid(), number)
        return
    if kind in ("exit", "desert"):
        os._exit(7)
    if kind == "wait":
        time.sleep(SLEEP)
    if kind == "chance":
        raise RuntimeError(f"the chance fault of worker {rank}")
    raise ValueError(f"the fault of worker {rank}")


def _desert(chosen: bool, asleep: Path) -> None:
    """Rendezvous of two ranks: one creates the file `asleep` and sleeps; the chosen one waits for the file."""
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

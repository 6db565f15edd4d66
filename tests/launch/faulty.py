"""FLOAT with a fault: `method=faulty:METHOD` does in one worker and step what the environment says.

FAULT is "exit" (the process dies), "desert" (it dies, and the other of two ranks sleeps, where no closed socket wakes
it), "raise" (a ValueError), "chance" (a RuntimeError, which a restart may mend) or "wait" (it sleeps); FAULT_STEP the
first step, counted in each worker process; FAULT_ONCE a file, made by the first fault, after which there is none;
FAULT_RANK whose (1). FAULT_SLOW names a file without which every step takes half a second: a run that is to be met in
the middle on any machine. FAULT_PACE is a number of seconds that every step takes besides. FAULT_STEPS names a file
that grows by a byte a step, COUNT_RAY one for how often the training called Ray (see `calls.py`).
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import calls

from distcond.methods.float import METHOD as FLOAT

#: Seconds that who is deserted sleeps: longer than any test waits.
SLEEP = 3600.0
_steps = 0


def fault() -> None:
    global _steps
    _steps += 1
    if "FAULT_STEPS" in os.environ and os.environ.get("RANK", "0") == "0":
        with open(os.environ["FAULT_STEPS"], "a") as file:
            file.write(".")
    if "COUNT_RAY" in os.environ:
        calls.watch(_steps, Path(os.environ["COUNT_RAY"]))
    if "FAULT_SLOW" in os.environ and not Path(os.environ["FAULT_SLOW"]).exists():
        time.sleep(0.5)
    time.sleep(float(os.environ.get("FAULT_PACE", "0")))
    if "FAULT" not in os.environ:
        return
    once, rank = Path(os.environ["FAULT_ONCE"]), os.environ.get("RANK", "0")
    chosen = rank == os.environ.get("FAULT_RANK", "1")
    if _steps < int(os.environ["FAULT_STEP"]) or once.exists():
        return
    if os.environ["FAULT"] == "desert":
        _desert(chosen, once.with_suffix(".asleep"))
    if not chosen:
        return
    once.touch()
    if os.environ["FAULT"] in ("exit", "desert"):
        os._exit(7)
    if os.environ["FAULT"] == "wait":
        time.sleep(300)
    if os.environ["FAULT"] == "chance":
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

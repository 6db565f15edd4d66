"""FLOAT that fails at its sixth step: `method=broken:RAISES`, HANGS or KILLED."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from distcond.methods.float import METHOD as FLOAT


def _raise() -> None:
    raise ValueError("the fault of the method")


def _hang() -> None:
    time.sleep(600)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail_at_sixth_step(fault: Callable[[], None]) -> Callable[[Any], Any]:
    def objective(options: Any) -> Any:
        inner, steps = FLOAT.objective(options), [0]

        def faulty(*arguments: Any) -> Any:
            steps[0] += 1
            if steps[0] == 6:
                fault()
            return inner(*arguments)

        return faulty

    return objective


RAISES, HANGS, KILLED = (
    dataclasses.replace(FLOAT, name=name, objective=_fail_at_sixth_step(fault))
    for name, fault in (
        ("raises", _raise),
        ("hangs", _hang),
        ("killed", _die),
    )
)

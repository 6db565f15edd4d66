"""FLOAT that goes wrong at its third step: `method=broken:RAISES`, HANGS, HANGS_TOO, STARVES (of memory) or KILLED."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distcond.methods.float import METHOD as FLOAT


def _raise() -> None:
    raise ValueError("the fault of the method")


def _hang() -> None:
    time.sleep(600)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _starve() -> None:
    """Allocate until there is no more, of an address space with a limit: the memory itself is never touched."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    taken = []
    try:
        while True:
            taken.append(torch.empty(2**28, dtype=torch.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)  # what is left of the worker has to tell


def _at_the_third_step(fault: Callable[[], None]) -> Callable[[Any], Any]:
    def objective(options: Any) -> Any:
        inner, steps = FLOAT.objective(options), [0]

        def faulty(*arguments: Any) -> Any:
            steps[0] += 1
            if steps[0] == 3:
                fault()
            return inner(*arguments)

        return faulty

    return objective


RAISES, HANGS, HANGS_TOO, KILLED, STARVES = (
    dataclasses.replace(FLOAT, name=name, objective=_at_the_third_step(fault))
    for name, fault in (
        ("raises", _raise),
        ("hangs", _hang),
        ("hangs_too", _hang),
        ("killed", _die),
        ("starves", _starve),
    )
)

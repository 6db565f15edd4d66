"""Forks of this process, for code that must die or run in parallel without importing torch again.

A fork has only the calling thread. It may use files and numpy, but no networks and no training.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from support.processes import LIMIT


def fork(function: Callable[..., Any], *args: object) -> BaseProcess:
    """Start a fork that calls `function(*args)` and ends."""
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks in a process with threads
        process.start()
    return process


def status(process: BaseProcess) -> int:
    """Wait for a fork; its exit status: 1 if the function raised, -N for signal N.

    Raises:
        AssertionError: it did not end in time and was killed.
    """
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"a fork is still running after {LIMIT:g} s")
    return process.exitcode

"""Processes that are copies of this one: what is to die or to run beside need not import torch again first.

A copy has this process's one thread and none of its others. What it runs must need none of those: files and numpy,
no network, no training.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from support.processes import LIMIT


def fork(function: Callable[..., Any], *args: object) -> BaseProcess:
    """Start a copy that calls `function(*args)` and ends."""
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
        process.start()
    return process


def status(process: BaseProcess) -> int:
    """What it ended with, 1 where the function raised, -N by signal N.

    Raises:
        AssertionError: it did not end in time, and was killed.
    """
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"a copy of this process runs on after {LIMIT:g} s")
    return process.exitcode

"""Processes of this machine that count blocks of an evaluation, each asking for the next when it is done with one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from distcond.engine.campaign.count_block import BlockCounter
from distcond.engine.campaign.plan import Plan
from distcond.engine.world import choose_device
from distcond.errors import ConfigError
from distcond.launch.failure import LaunchFailed, WorkerError, told


def count_here(plan: Plan, blocks: Sequence[int]) -> None:
    """Count `blocks` in this process."""
    before = torch.get_num_threads()
    # The same number as in a worker: it decides how sums are split, and so the last bit of a logit.
    torch.set_num_threads(plan.config.launch.cpus_per_worker)
    try:
        counter = BlockCounter(plan, choose_device(plan.config.launch.device))
        for block in blocks:
            counter(block)
    finally:
        torch.set_num_threads(before)


def count_in_processes(plan: Plan, blocks: Sequence[int], workers: int) -> None:
    """Count `blocks` in `workers` processes. A block whose process dies is given to another one.

    Raises:
        ConfigError: a worker found a mistake of the user's.
        LaunchFailed: a worker failed, or none is left.
    """
    pool = _Pool(plan, deque(blocks), workers)
    try:
        pool.run()
    finally:
        pool.close()


class _Pool:
    def __init__(self, plan: Plan, waiting: deque[int], workers: int) -> None:
        self.plan, self.waiting = plan, waiting
        self.running: dict[Connection, tuple[BaseProcess, int]] = {}
        context = multiprocessing.get_context("spawn")
        for rank in range(workers):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(plan, rank, there), daemon=True)
            process.start()
            there.close()
            self.running[here] = (process, self.waiting.popleft())
            here.send(self.running[here][1])

    def run(self) -> None:
        while self.running:
            for link in wait(list(self.running)):
                assert isinstance(link, Connection)
                try:
                    answer = link.recv()
                except (EOFError, OSError):
                    self._lost(link)
                    continue
                if answer is not None:
                    raise _failure(answer)
                self._next(link)

    def _next(self, link: Connection) -> None:
        process, _ = self.running.pop(link)
        if not self.waiting:
            link.close()  # the worker takes it for the end
            process.join()
            return
        block = self.waiting.popleft()
        self.running[link] = (process, block)
        with suppress(OSError):  # dead meanwhile: the next look will find that
            link.send(block)

    def _lost(self, link: Connection) -> None:
        process, block = self.running.pop(link)
        process.join()
        self.waiting.append(block)
        if not self.running:
            raise LaunchFailed(f"every worker died, the last with status {process.exitcode}, at block {block}")

    def close(self) -> None:
        for process, _ in self.running.values():
            process.kill()
            process.join()


def _serve(plan: Plan, rank: int, link: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(plan.config.launch.cpus_per_worker)
    answer: tuple[str, str, int, str] | None = None
    with suppress(EOFError, OSError):
        try:
            with told(plan.run_path, rank, 0):
                counter = BlockCounter(plan, choose_device(plan.config.launch.device, rank))
                while True:
                    block = _received(link)
                    if block is None:
                        return
                    counter(block)
                    link.send(None)
        except WorkerError as error:
            answer = (error.kind, error.line, error.rank, error.file)
        link.send(answer)


def _received(link: Connection) -> int | None:
    try:
        block: int = link.recv()
    except EOFError:
        return None
    return block


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _failure(answer: tuple[str, str, int, str]) -> Exception:
    error = WorkerError(*answer)  # type: ignore[arg-type]
    return as_told(error)


def as_told(error: WorkerError) -> Exception:
    """A worker's error as the driver raises it."""
    if error.kind == "config":
        return ConfigError(error.line)
    return LaunchFailed(f"{error.line} (traceback in {error.file})")

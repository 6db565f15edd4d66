"""Blocks of an evaluation counted on this machine: in this process, or in several that ask for the next when done."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.evaluation.blocks import BlockEvaluator, CountBlocks
from distcond.evaluation.plan import EvalPlan
from distcond.runs.failures import LaunchFailed, WorkerError, capture_worker_error


@contextmanager
def counting(plan: EvalPlan, workers: int) -> Iterator[CountBlocks]:
    """A `CountBlocks` over `workers` processes, or in this one if they are one. They stay until the context ends.

    Raises, when it counts:
        ConfigError: a worker found a mistake of the user's.
        LaunchFailed: a worker failed, or none is left.
    """
    if workers == 1:
        with _threads(plan.config.launch.cpus_per_worker):
            yield _Here()
        return
    pool = _Pool(workers)
    try:
        yield pool
        pool.dismiss()
    finally:
        pool.kill()


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """As many threads as in a worker: their number decides how sums are split, and so the last bit of a logit."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Here:
    def __init__(self) -> None:
        self.evaluator: BlockEvaluator | None = None

    def __call__(self, plan: EvalPlan, blocks: Sequence[int], done: Callable[[int], None]) -> None:
        if self.evaluator is None:
            self.evaluator = BlockEvaluator(plan, choose_device(plan.config.launch.device))
        self.evaluator.plan = plan
        for block in blocks:
            self.evaluator(block)
            done(block)


class _Pool:
    """Processes that are started when there are blocks for them. A block whose process dies is given to another."""

    def __init__(self, most: int) -> None:
        self.most, self.ranks = most, itertools.count()
        self.workers = dict[Connection, BaseProcess]()

    def __call__(self, plan: EvalPlan, blocks: Sequence[int], done: Callable[[int], None]) -> None:
        waiting, running = deque(blocks), dict[Connection, int]()
        while len(self.workers) < min(self.most, len(waiting)):
            self._start(plan)
        while waiting or running:
            idle = [link for link in self.workers if link not in running]
            for free in idle[: len(waiting)]:
                running[free] = waiting.popleft()
                with suppress(OSError):  # dead meanwhile: the next look will find that
                    free.send((plan, running[free]))
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                link: Connection = ready
                block = running.pop(link)
                if self._done(link, block):
                    done(block)
                else:
                    waiting.append(block)

    def _start(self, plan: EvalPlan) -> None:
        context, rank = multiprocessing.get_context("spawn"), next(self.ranks) % self.most
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(plan, rank, there), daemon=True)
        process.start()
        there.close()
        self.workers[here] = process

    def _done(self, link: Connection, block: int) -> bool:
        try:
            answer = link.recv()
        except (EOFError, OSError):
            process = self.workers.pop(link)
            process.join()
            if not self.workers:
                status = f"the last with status {process.exitcode}, at block {block}"
                raise LaunchFailed(f"every worker died, {status}") from None
            return False
        if answer is not None:
            raise as_told(WorkerError(*answer))
        return True

    def dismiss(self) -> None:
        """Let idle workers end by themselves."""
        for link, process in self.workers.items():
            link.close()
            process.join()
        self.workers.clear()

    def kill(self) -> None:
        """End what is left at once."""
        for process in self.workers.values():
            process.kill()
            process.join()


def _serve(plan: EvalPlan, rank: int, link: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(plan.config.launch.cpus_per_worker)
    answer: tuple[str, str, int, str] | None = None
    with suppress(EOFError, OSError):
        try:
            with capture_worker_error(plan.keep_path, rank, 0):
                evaluator = BlockEvaluator(plan, choose_device(plan.config.launch.device, rank))
                while True:
                    work = _received(link)
                    if work is None:
                        return
                    evaluator.plan, block = work
                    evaluator(block)
                    link.send(None)
        except WorkerError as error:
            answer = (error.kind, error.line, error.rank, error.file)
        link.send(answer)


def _received(link: Connection) -> tuple[EvalPlan, int] | None:
    try:
        work: tuple[EvalPlan, int] = link.recv()
    except EOFError:
        return None
    return work


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def as_told(error: WorkerError) -> Exception:
    """A worker's error as the driver raises it."""
    if error.kind == "config":
        return ConfigError(error.line)
    return LaunchFailed(f"{error.line} ({error.where})")

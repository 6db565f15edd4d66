"""Evaluate blocks on this machine: in this process, or in several worker processes that each take the next block."""

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
from distcond.evaluation.blocks import BlockEvaluator, CountBlocks
from distcond.evaluation.plan import EvalPlan
from distcond.launch.threads import num_threads
from distcond.runs.failures import LaunchFailed, WorkerError, as_driver_error, capture_worker_error


@contextmanager
def block_pool(plan: EvalPlan, workers: int) -> Iterator[CountBlocks]:
    """Yields a `CountBlocks` over `workers` processes, which live until the block ends; for 1, over this process.

    Calling it raises:
        ConfigError: a worker found an error of the user.
        LaunchFailed: a worker failed, or all of them died.
    """
    if workers == 1:
        # As in a worker: the number of threads affects the order of sums, and so the last bits of logits.
        with num_threads(plan.config.launch.cpus_per_worker):
            yield _InProcess()
        return
    pool = _WorkerPool(workers)
    try:
        yield pool
        pool.close()
    finally:
        pool.kill()


class _InProcess:
    def __init__(self) -> None:
        self.evaluator: BlockEvaluator | None = None

    def __call__(self, plan: EvalPlan, blocks: Sequence[int], done: Callable[[int], None]) -> None:
        if self.evaluator is None:
            self.evaluator = BlockEvaluator(plan, choose_device(plan.config.launch.device))
        self.evaluator.plan = plan
        for block in blocks:
            self.evaluator(block)
            done(block)


class _WorkerPool:
    """At most `size` worker processes, started when there are blocks for them. A dead worker's block is retried."""

    def __init__(self, size: int) -> None:
        self.size, self.ranks = size, itertools.count()
        self.workers = dict[Connection, BaseProcess]()

    def __call__(self, plan: EvalPlan, blocks: Sequence[int], done: Callable[[int], None]) -> None:
        waiting, running = deque(blocks), dict[Connection, int]()
        while len(self.workers) < min(self.size, len(waiting)):
            self._start_worker(plan)
        while waiting or running:
            idle = [link for link in self.workers if link not in running]
            for link in idle[: len(waiting)]:
                running[link] = waiting.popleft()
                with suppress(OSError):  # a worker that died meanwhile is noticed below
                    link.send((plan, running[link]))
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                block = running.pop(ready)
                if self._receive_result(ready, block):
                    done(block)
                else:
                    waiting.append(block)

    def close(self) -> None:
        """Let idle workers exit, and wait for them."""
        for link, process in self.workers.items():
            link.close()
            process.join()
        self.workers.clear()

    def kill(self) -> None:
        """Kill the remaining workers."""
        for process in self.workers.values():
            process.kill()
            process.join()

    def _start_worker(self, plan: EvalPlan) -> None:
        context, rank = multiprocessing.get_context("spawn"), next(self.ranks) % self.size
        own_end, worker_end = context.Pipe()
        process = context.Process(target=_run_worker, args=(plan, rank, worker_end), daemon=True)
        process.start()
        worker_end.close()
        self.workers[own_end] = process

    def _receive_result(self, link: Connection, block: int) -> bool:
        """Whether the worker has evaluated the block; False if it died.

        Raises:
            ConfigError, LaunchFailed: the worker's error; or no worker is left.
        """
        try:
            failure = link.recv()
        except (EOFError, OSError):
            process = self.workers.pop(link)
            process.join()
            if not self.workers:
                status = f"the last with status {process.exitcode}, at block {block}"
                raise LaunchFailed(f"every worker died, {status}") from None
            return False
        if failure is not None:
            raise as_driver_error(WorkerError(*failure))
        return True


def _run_worker(plan: EvalPlan, rank: int, link: Connection) -> None:
    """Evaluate the blocks that arrive on `link`. Answers None for success, or the arguments of a WorkerError."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which ends its workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(plan.config.launch.cpus_per_worker)
    failure: tuple[str, str, int, str] | None = None
    with suppress(EOFError, OSError):
        try:
            with capture_worker_error(plan.keep_path, rank, 0):
                evaluator = BlockEvaluator(plan, choose_device(plan.config.launch.device, rank))
                while (work := _receive_work(link)) is not None:
                    evaluator.plan, block = work
                    evaluator(block)
                    link.send(None)
                return
        except WorkerError as error:
            failure = (error.kind, error.line, error.rank, error.file)
        link.send(failure)


def _receive_work(link: Connection) -> tuple[EvalPlan, int] | None:
    try:
        work: tuple[EvalPlan, int] = link.recv()
    except EOFError:
        return None
    return work


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

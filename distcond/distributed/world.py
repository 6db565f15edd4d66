"""World: the ranks of a run, their process group, the collectives outside DDP, and slow work under keep-alive."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from distcond.distributed.rendezvous import rendezvous_store
from distcond.errors import ConfigError, TransientError
from distcond.storage.errors import StorageError

#: Seconds in which a thread that is done lets go, on a machine however busy.
PATIENCE = 5.0


@dataclass(frozen=True)
class World:
    """This process among the `size` that train one network together."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank: the host, and not only its device's queue."""
        self.all_reduce_max([0.0])

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over ranks, on every rank."""
        if self.size > 1:
            values = values.clone()
            with wait_for_release(values):
                dist.all_reduce(values)
        return values

    def all_reduce_max(self, values: list[float]) -> list[float]:
        """Element-wise maximum over ranks, on every rank. It goes by way of the CPU: no device waits."""
        if self.size == 1:
            return values
        agreed = torch.tensor(values, dtype=torch.float64)
        with wait_for_release(agreed):
            dist.all_reduce(agreed, dist.ReduceOp.MAX)
        found: list[float] = agreed.tolist()
        return found

    def gather(self, values: Tensor) -> list[Tensor]:
        """The values of every rank, in rank order, on every rank."""
        if self.size == 1:
            return [values]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with wait_for_release(values, *parts):
            dist.all_gather(parts, values)
        return parts


@contextmanager
def wait_for_release(*tensors: Tensor) -> Iterator[None]:
    """A collective on `tensors`; afterwards, wait until gloo's own thread holds none of them any longer.

    It lets go a moment after it has said that it is done, and needs the interpreter for that: where the interpreter is
    ending by then, the whole process is aborted (SIGABRT, seen with torch 2.15 in one of a few dozen runs). Where
    something else keeps them, as a debugger of torch's may, a run does not wait for it longer than `PATIENCE`.
    """
    before = [tensor._use_count() for tensor in tensors]
    yield
    deadline = time.monotonic() + PATIENCE
    for tensor, count in zip(tensors, before, strict=True):
        while tensor.device.type == "cpu" and tensor._use_count() > count and time.monotonic() < deadline:
            time.sleep(0)


def choose_device(wanted: str, local_rank: int = 0) -> torch.device:
    """The device called "auto", "cpu" or "cuda" for one worker of a node.

    Raises:
        ConfigError: cuda asked for where there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("launch.device=cuda: torch sees no GPU here; valid: auto, cpu")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


class RankInfo(NamedTuple):
    """Which of torchrun's processes this is: among all, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


#: Where the processes of a start meet.
_MEETING = ("MASTER_ADDR", "MASTER_PORT")

_LEFT_OVER = "start by torchrun, or unset RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE if they are left over"


def rank_from_environment() -> RankInfo:
    """This process's place by torchrun's variables; alone without them.

    Raises:
        ConfigError: they are empty, no numbers or do not fit each other, as where some are left over.
    """
    size, rank = _number("WORLD_SIZE", 1, 1), _number("RANK", 0, 0)
    local_size, local_rank = _number("LOCAL_WORLD_SIZE", size, 1), _number("LOCAL_RANK", 0, 0)
    if rank >= size:
        of = f"WORLD_SIZE={size}" if "WORLD_SIZE" in os.environ else "WORLD_SIZE is not set"
        raise ConfigError(f"RANK={rank}: not a rank of this run, {of}; {_LEFT_OVER}")
    if local_rank >= local_size > 1 or local_size > size:
        raise ConfigError(
            f"LOCAL_RANK={local_rank}, LOCAL_WORLD_SIZE={local_size}: do not fit WORLD_SIZE={size}; {_LEFT_OVER}"
        )
    missing = [name for name in ("RANK", *_MEETING) if not os.environ.get(name)]
    if size > 1 and missing:
        raise ConfigError(f"WORLD_SIZE={size}: {' and '.join(missing)} not set; {_LEFT_OVER}")
    if size > 1:
        _number("MASTER_PORT", 0, 0)
    return RankInfo(rank, size, local_rank, local_size)


def _number(name: str, default: int, least: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.strip().isascii() and text.strip().isdigit()) or int(text) < least:
        raise ConfigError(f"{name}={text!r} in the environment: not a number of at least {least}; {_LEFT_OVER}")
    return int(text)


@contextmanager
def world_from_environment(wanted_device: str, timeout: float, stop: Callable[[], bool]) -> Iterator[World]:
    """This process's world by torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK), or a world of one without them.

    Raises:
        ConfigError: the variables do not fit each other.
        NotNow: not all of its processes came in time.
        CalledOff: `stop` said so before they were there.
    """
    rank, size, local_rank, _ = rank_from_environment()
    device = choose_device(wanted_device, local_rank)
    if size == 1:
        yield World(device=device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    patience = timedelta(seconds=timeout)
    try:
        store = rendezvous_store(next(rendezvous("env://", timeout=patience))[0], rank, size, timeout, stop)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    except RuntimeError as error:  # a store or gloo may say so first, each in its way
        why = str(error).strip().splitlines()[0]
        raise TransientError(f"{size} processes were to meet within launch.timeout={timeout:g} s: {why}") from error
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


T = TypeVar("T")

#: Seconds between two words of a rank that is still at it.
KEEPALIVE_INTERVAL = 1.0


def run_with_keepalive(world: World, work: Callable[[], T], limit: float = math.inf) -> T:
    """The result of `work`, which every rank calls at the same place; back once all ranks have done theirs.

    The work is done in a thread, while the ranks keep meeting in small reductions: a collective that they went into
    when they are done would give up on a slow one after `launch.timeout`. It still gives up on a rank that is gone.

    Raises:
        Exception: what this rank's work raised, at once; the others then miss this rank.
        StorageError: it took longer than `limit` seconds; it is left behind, and keeps no process alive.
    """
    if world.size == 1 and limit == math.inf:
        return work()
    deadline = time.monotonic() + limit
    done: Future[T] = Future()
    thread = threading.Thread(target=_into, args=(done, work), name="together", daemon=True)
    thread.start()
    busy = True
    while busy:
        thread.join(KEEPALIVE_INTERVAL)
        if done.done():
            done.result()
        elif time.monotonic() > deadline:
            raise StorageError(f"storage: no end of it within {limit:g} s; see whether it answers at all")
        busy = bool(world.all_reduce_max([float(not done.done())])[0])
    return done.result()


def _into(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)

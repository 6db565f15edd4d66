"""World: the ranks of a run, the collectives outside DDP, and slow work under keep-alive."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from distcond.errors import ConfigError
from distcond.storage.errors import StorageError

T = TypeVar("T")

#: Seconds to wait for gloo's thread to release its tensors.
PATIENCE = 5.0

#: Seconds between two reductions of ranks that wait for a slow one.
KEEPALIVE_INTERVAL = 1.0


@dataclass(frozen=True)
class World:
    """This process among the `size` that train one network together."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this process writes files that are written once."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank, on the host and not only in the device's queue."""
        self.all_reduce_max([0.0])

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over ranks, on every rank."""
        if self.size > 1:
            values = values.clone()
            with wait_for_release(values):
                dist.all_reduce(values)
        return values

    def all_reduce_max(self, values: list[float]) -> list[float]:
        """Element-wise maximum over ranks, on every rank. Runs on the CPU: no device waits."""
        if self.size == 1:
            return values
        reduced = torch.tensor(values, dtype=torch.float64)
        with wait_for_release(reduced):
            dist.all_reduce(reduced, dist.ReduceOp.MAX)
        result: list[float] = reduced.tolist()
        return result

    def gather(self, values: Tensor) -> list[Tensor]:
        """The values of every rank, in order of rank, on every rank. All have the same shape."""
        if self.size == 1:
            return [values]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with wait_for_release(values, *parts):
            dist.all_gather(parts, values)
        return parts


def all_gather_text(world: World, text: str) -> list[str]:
    """The texts of every rank, of any length, in order of rank, on every rank.

    torch's own collectives for objects would unpickle what comes over the network.
    """
    if world.size == 1:
        return [text]
    own = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
    sizes = [int(size) for size in world.gather(torch.tensor([len(text.encode())]))]
    padded = torch.zeros(max(1, *sizes), dtype=torch.uint8)
    padded[: len(own)] = own
    parts = world.gather(padded)
    return [bytes(part[:size].tolist()).decode() for part, size in zip(parts, sizes, strict=True)]


@contextmanager
def wait_for_release(*tensors: Tensor) -> Iterator[None]:
    """Run a collective on `tensors` in the block, then wait until gloo's thread has released them.

    gloo releases them a moment after it reports completion, and needs the interpreter for that. If the interpreter is
    shutting down by then, the process is aborted (SIGABRT, seen with torch 2.15 in one of a few dozen runs). If
    something else holds the tensors, such as a debugger, the wait ends after `PATIENCE` seconds.
    """
    before = [tensor._use_count() for tensor in tensors]
    yield
    deadline = time.monotonic() + PATIENCE
    for tensor, count in zip(tensors, before, strict=True):
        while tensor.device.type == "cpu" and tensor._use_count() > count and time.monotonic() < deadline:
            time.sleep(0)


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of one worker of a machine.

    Args:
        name: "auto", "cpu" or "cuda", as in `launch.device`.
        local_rank: number of the worker on its machine.

    Raises:
        ConfigError: "cuda" without a GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("launch.device=cuda: torch sees no GPU here; valid: auto, cpu")
    if name == "cpu" or not available:
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def run_with_keepalive(world: World, work: Callable[[], T], limit: float = math.inf) -> T:
    """Run slow `work` on every rank and return its result once all ranks are done. Collective.

    The work runs in a thread while the ranks keep exchanging small reductions. A single collective at the end would
    give up on a slow rank after `launch.timeout`; this one gives up only on a rank that is gone.

    Args:
        world: the ranks.
        work: called on every rank.
        limit: seconds.

    Raises:
        Exception: of this rank's work, immediately; the other ranks then lose this one.
        StorageError: the work took longer than `limit`. Its thread is abandoned and keeps no process alive.
    """
    if world.size == 1 and limit == math.inf:
        return work()
    deadline = time.monotonic() + limit
    future: Future[T] = Future()
    thread = threading.Thread(target=_resolve, args=(future, work), name="keepalive-work", daemon=True)
    thread.start()
    busy = True
    while busy:
        thread.join(KEEPALIVE_INTERVAL)
        if future.done():
            future.result()
        elif time.monotonic() > deadline:
            raise StorageError(f"storage: no answer within {limit:g} s; check that it is reachable")
        busy = bool(world.all_reduce_max([float(not future.done())])[0])
    return future.result()


def _resolve(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)

"""How many threads torch uses in a process, and how they wait.

`distcond/__init__.py` sets OMP_WAIT_POLICY=passive before torch loads: a thread that has finished its share of an
operation sleeps. OpenMP's default is to spin, which gains microseconds on an idle machine; beside other busy processes
every operation waits for a thread that the spinning ones keep off the cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from distcond.config.schema import Config
from distcond.launch.capacity import Capacity
from distcond.training.flops import forward_flops

#: FLOPs of a batch's forward pass from which several threads pay. Below, an operation takes some ten microseconds, as
#: long as it takes to share it: the digits' network (0.16e9 at batch 128) is slower on two idle cores than on one.
SHARED_FLOPS = 1e9


def choose_num_threads(config: Config, capacity: Capacity) -> int:
    """Threads of a run that has this machine's cores for itself: one for small networks, else one per core.

    OMP_NUM_THREADS is the upper limit.
    """
    flops = config.batch_size * max(forward_flops(config))
    return 1 if flops < SHARED_FLOPS else max(1, min(capacity.cores, torch.get_num_threads()))


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Use `number` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

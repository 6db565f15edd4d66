"""Rank 0 answers every rank in a store, so that each knows that it has the store of the present start."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed.distributed_c10d import Store

from distcond.errors import StopRequested

#: Seconds to wait for a key before checking for a stop request and the deadline.
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """How long a rank waits for the others.

    Attributes:
        size: number of ranks.
        deadline: by time.monotonic().
        stop: whether the run was asked to stop.
    """

    size: int
    deadline: float
    stop: Callable[[], bool]

    def check(self, arrived: int | None = None, problem: str = "") -> None:
        """Check that there is a reason to wait on; `arrived` ranks or a `problem` are for the error message.

        Raises:
            RuntimeError: the deadline is over.
            StopRequested: the run was asked to stop.
        """
        if self.stop():
            raise StopRequested
        if time.monotonic() > self.deadline:
            count = "not all" if arrived is None else str(arrived)
            raise RuntimeError(f"{count} of {self.size} processes arrived in time{problem}")

    def read(self, store: Store, key: str, arrived: int | None = None) -> str:
        """The value of a key; "" if it is not written within `_POLL_SECONDS`. Raises as `check`."""
        self.check(arrived)
        try:
            store.wait([key], timedelta(seconds=_POLL_SECONDS))
        except RuntimeError:  # not written yet
            return ""
        return store.get(key).decode()


def answer_ranks(store: Store, start: str, patience: Patience) -> None:
    """As rank 0, answer every rank that asks under the name of this start; return once all have asked."""
    for rank in range(1, patience.size):
        while not (token := patience.read(store, f"{start}/{rank}", arrived=rank)):
            pass
        store.set(f"{start}/{rank}/heard", token)


def is_answered(store: Store, start: str, rank: int, token: str, patience: Patience) -> bool:
    """As another rank, ask under the name of a start; whether rank 0 answers within `_POLL_SECONDS`."""
    store.set(f"{start}/{rank}", token)
    return patience.read(store, f"{start}/{rank}/heard") == token

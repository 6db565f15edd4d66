"""Rendezvous of the processes of one start, apart from those of earlier starts.

torchrun keeps its store over restarts (https://github.com/pytorch/pytorch/issues/135712). A fast process would read the
addresses of the previous start there, connect to nobody, and use up the restart.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

_WORD = "distcond/word"

#: Seconds to wait for a word before looking whether something else is the matter.
_TURN = 0.5


class RendezvousCancelled(Exception):
    """The run was asked to stop before everyone had come."""


@dataclass(frozen=True)
class _Board:
    """A store, and how long to wait for what others write there."""

    store: Store
    size: int
    deadline: float
    stop: Callable[[], bool]

    def read(self, key: str) -> str:
        """What was written there; "" if that takes a while."""
        if self.stop():
            raise RendezvousCancelled
        if time.monotonic() > self.deadline:
            raise RuntimeError(f"not all {self.size} came in time")
        try:
            self.store.wait([key], timedelta(seconds=_TURN))
        except RuntimeError:  # nobody has said it
            return ""
        return self.store.get(key).decode()


def rendezvous_store(store: Store, rank: int, size: int, seconds: float, stop: Callable[[], bool]) -> Store:
    """The part of `store` under a word of rank 0's, once that has answered this process. Collective.

    Raises:
        RuntimeError: not all of them came within so many seconds.
        CalledOff: `stop` said so first.
    """
    board = _Board(store, size, time.monotonic() + seconds, stop)
    return PrefixStore(_lead(board) if rank == 0 else _follow(board, rank), store)


def _lead(board: _Board) -> str:
    word = secrets.token_hex(8)
    board.store.set(_WORD, word)
    for rank in range(1, board.size):
        while not (own := board.read(f"{word}/{rank}")):
            pass
        board.store.set(f"{word}/{rank}/heard", own)
    return word


def _follow(board: _Board, rank: int) -> str:
    own = secrets.token_hex(8)
    while True:
        word = board.read(_WORD)  # of the start before, perhaps: that one's rank 0 answers no more
        if word:
            board.store.set(f"{word}/{rank}", own)
            if board.read(f"{word}/{rank}/heard") == own:
                return word
            time.sleep(0.02)

"""Joins the processes that torchrun started into one world (`world_from_environment`).

On one machine they meet in a file that only their user can open (`meeting_place`), on several in a TCP store. There,
torchrun keeps its store over restarts (https://github.com/pytorch/pytorch/issues/135712). A fast process would read the
addresses of the previous start there, connect to nobody, and use up the restart. So every start gets its own prefix in
the store: rank 0 chooses it, and answers each rank that uses it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from distcond.distributed.handshake import Patience, answer_ranks, is_answered
from distcond.distributed.meeting_place import meeting_place
from distcond.distributed.stores import gloo_on_loopback, is_loopback, join_store, serve_store
from distcond.distributed.world import World, choose_device
from distcond.errors import ConfigError, TransientError

_LEFT_OVER = "start by torchrun, or unset RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE if they are left over"

#: Key of the prefix that rank 0 has chosen.
_PREFIX_KEY = "distcond/word"

#: Set by torchrun where its own process serves the store.
_AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"


@contextmanager
def world_from_environment(device_name: str, timeout: float, stop: Callable[[], bool]) -> Iterator[World]:
    """This process's world by torchrun's variables, or a world of one without them.

    Args:
        device_name: `launch.device`.
        timeout: `launch.timeout`, seconds for the rendezvous and for every collective.
        stop: whether the run was asked to stop.

    Raises:
        ConfigError: the variables contradict each other.
        TransientError: not all processes arrived in time.
        StopRequested: `stop` returned True before they arrived.
    """
    rank, size, local_rank, _ = rank_from_environment()
    device = choose_device(device_name, local_rank)
    if size == 1:
        yield World(device=device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with ExitStack() as stack:
        try:
            if is_one_machine():
                stack.enter_context(gloo_on_loopback())
                store: Store = stack.enter_context(meeting_place(rank, size, timeout, stop))
            else:
                store = rendezvous_store(_tcp_store(rank, timeout), rank, size, timeout, stop)
            limit = timedelta(seconds=timeout)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        except RuntimeError as error:  # of the rendezvous, of torch's store or of gloo, whichever times out first
            reason = str(error).strip().splitlines()[0]
            raise TransientError(
                f"rendezvous of {size} processes failed (launch.timeout={timeout:g} s): {reason}"
            ) from error
        try:
            yield World(rank, size, device)
        finally:
            dist.destroy_process_group()


def is_one_machine() -> bool:
    """Whether torchrun's variables say that all ranks are on this machine."""
    sizes = [os.environ.get(name) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE")]
    return sizes[0] == sizes[1] or is_loopback(os.environ.get("MASTER_ADDR", ""))


def _tcp_store(rank: int, timeout: float) -> Store:
    """torchrun's store, or one that rank 0 serves."""
    host, port, limit = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=timeout)
    if rank > 0 or os.environ.get(_AGENT_STORE) == str(True):
        return join_store(host, port, limit)
    return serve_store(host, port, limit)[0]


class RankInfo(NamedTuple):
    """The rank of a process started by torchrun: among all processes, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def rank_from_environment() -> RankInfo:
    """This process's rank by torchrun's variables; rank 0 of 1 without them.

    Raises:
        ConfigError: the variables are empty, not numbers, or contradict each other, as when some are left over.
    """
    size, rank = _read_number("WORLD_SIZE", 1, 1), _read_number("RANK", 0, 0)
    local_size, local_rank = _read_number("LOCAL_WORLD_SIZE", size, 1), _read_number("LOCAL_RANK", 0, 0)
    if rank >= size:
        of = f"WORLD_SIZE={size}" if "WORLD_SIZE" in os.environ else "WORLD_SIZE is not set"
        raise ConfigError(f"RANK={rank}: not a rank of this run, {of}; {_LEFT_OVER}")
    if local_rank >= local_size > 1 or local_size > size:
        local = f"LOCAL_RANK={local_rank}, LOCAL_WORLD_SIZE={local_size}"
        raise ConfigError(f"{local}: contradict WORLD_SIZE={size}; {_LEFT_OVER}")
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if size > 1 and missing:
        raise ConfigError(f"WORLD_SIZE={size}: {' and '.join(missing)} not set; {_LEFT_OVER}")
    if size > 1:
        _read_number("MASTER_PORT", 0, 0)
    return RankInfo(rank, size, local_rank, local_size)


def _read_number(name: str, default: int, least: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.strip().isascii() and text.strip().isdigit()) or int(text) < least:
        raise ConfigError(f"{name}={text!r} in the environment: not a number of at least {least}; {_LEFT_OVER}")
    return int(text)


def rendezvous_store(store: Store, rank: int, size: int, seconds: float, stop: Callable[[], bool]) -> Store:
    """The part of `store` under the prefix of this start. Collective; returns once rank 0 has answered this process.

    Raises:
        RuntimeError: not all processes arrived within `seconds`.
        StopRequested: `stop` returned True before.
    """
    patience = Patience(size, time.monotonic() + seconds, stop)
    return PrefixStore(_lead(store, patience) if rank == 0 else _follow(store, rank, patience), store)


def _lead(store: Store, patience: Patience) -> str:
    prefix = secrets.token_hex(8)
    store.set(_PREFIX_KEY, prefix)
    answer_ranks(store, prefix, patience)
    return prefix


def _follow(store: Store, rank: int, patience: Patience) -> str:
    token = secrets.token_hex(8)
    while True:
        prefix = patience.read(store, _PREFIX_KEY)  # possibly of the previous start, whose rank 0 answers no more
        if prefix:
            if is_answered(store, prefix, rank, token, patience):
                return prefix
            time.sleep(0.02)

"""How many workers a machine or a cluster can hold, and what is refused before anything starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from distcond.config.schema import LaunchConfig
from distcond.errors import ConfigError


class Capacity(NamedTuple):
    """CPU cores and GPUs of `where`."""

    cores: int
    gpus: int
    where: str


def this_machine() -> Capacity:
    """What this process may use: its CPU affinity and cgroup quota, and the GPUs it sees."""
    cores = min(len(os.sched_getaffinity(0)), _quota())
    return Capacity(max(1, cores), torch.cuda.device_count(), "this machine")


def on_gpu(launch: LaunchConfig, capacity: Capacity) -> bool:
    """Whether workers get a GPU each.

    Raises:
        ConfigError: cuda asked for where there is none.
    """
    if launch.device == "cuda" and capacity.gpus == 0:
        raise ConfigError(f"launch.device=cuda: {capacity.where} has no GPU that torch or Ray sees; valid: auto, cpu")
    return launch.device != "cpu" and capacity.gpus > 0


def number_of_workers(launch: LaunchConfig, capacity: Capacity) -> int:
    """`launch.workers`, or for 0: one per GPU, else two where there are cores for two.

    Raises:
        ConfigError: more workers than `capacity` holds.
    """
    gpu, each = on_gpu(launch, capacity), launch.cpus_per_worker
    by_cores = capacity.cores // each
    most = min(by_cores, capacity.gpus) if gpu else by_cores
    if most == 0:
        raise ConfigError(f"launch.cpus_per_worker={each}: {capacity.where} has {_count(capacity.cores, 'core')}")
    wanted = launch.workers or (capacity.gpus if gpu else min(2, most))
    if wanted > most:
        has = _count(capacity.gpus, "GPU") if gpu and most == capacity.gpus else _count(capacity.cores, "core")
        of_cores = f" of launch.cpus_per_worker={each}" if each > 1 else ""
        valid = f"1 to {most}" if most > 1 else "1"
        raise ConfigError(f"launch.workers={wanted}: {capacity.where} has {has}; valid{of_cores}: {valid}")
    return wanted


def range_of_workers(launch: LaunchConfig, capacity: Capacity, elastic: bool) -> tuple[int, int]:
    """The fewest and the most workers; twice the same number for a fixed one.

    Where the number may change (`elastic` and `launch.min_workers`), the most may be more than `capacity` holds now.

    Raises:
        ConfigError: more workers than `capacity` holds.
    """
    least = launch.min_workers
    if not (elastic and least):
        workers = number_of_workers(launch, capacity)
        return workers, workers
    try:
        number_of_workers(replace(launch, workers=least), capacity)
    except ConfigError as error:
        raise ConfigError(str(error).replace("launch.workers=", "launch.min_workers=")) from error
    return least, launch.workers or max(least, number_of_workers(launch, capacity))


def check_range(launch: LaunchConfig) -> None:
    """Refuse a least number of workers that the rest of `launch` contradicts.

    Raises:
        ConfigError: it does.
    """
    if not launch.min_workers:
        return
    if launch.name == "local":
        raise ConfigError(f"launch.min_workers={launch.min_workers}: launch=local does not change workers; valid: 0")
    if launch.workers and launch.min_workers > launch.workers:
        most = launch.workers
        raise ConfigError(
            f"launch.min_workers={launch.min_workers}: more than launch.workers={most}; valid: 0 to {most}"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Whole cores of the cgroup's CPU quota (at least 1), or more than any machine has."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = [word for file in files for word in (root / file).read_text().split()]
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0:
            return max(1, quota // period)
    return 1 << 20

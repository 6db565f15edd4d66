"""Capacity of a machine or a cluster: how many workers it holds, and which requests are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


def detect_capacity() -> Capacity:
    """What this process may use: cores by CPU affinity and cgroup quota, and the GPUs that torch sees."""
    cores = min(len(os.sched_getaffinity(0)), _cgroup_cores())
    return Capacity(max(1, cores), torch.cuda.device_count(), "this machine")


def workers_use_gpu(launch: LaunchConfig, capacity: Capacity) -> bool:
    """Whether workers get a GPU each.

    Raises:
        ConfigError: launch.device=cuda without a GPU.
    """
    if launch.device == "cuda" and capacity.gpus == 0:
        raise ConfigError(f"launch.device=cuda: {capacity.where} has no GPU that torch or Ray sees; valid: auto, cpu")
    return launch.device != "cpu" and capacity.gpus > 0


def choose_num_workers(launch: LaunchConfig, capacity: Capacity) -> int:
    """`launch.workers`; for 0: one per GPU, or without GPUs two if there are cores for two.

    Raises:
        ConfigError: more workers than `capacity` holds.
    """
    gpu, each = workers_use_gpu(launch, capacity), launch.cpus_per_worker
    by_cores = capacity.cores // each
    most = min(by_cores, capacity.gpus) if gpu else by_cores
    if most == 0:
        raise ConfigError(f"launch.cpus_per_worker={each}: {capacity.where} has {_count(capacity.cores, 'core')}")
    workers = launch.workers or (capacity.gpus if gpu else min(2, most))
    if workers > most:
        has = _count(capacity.gpus, "GPU") if gpu and most == capacity.gpus else _count(capacity.cores, "core")
        of_cores = f" of launch.cpus_per_worker={each}" if each > 1 else ""
        valid = f"1 to {most}" if most > 1 else "1"
        raise ConfigError(f"launch.workers={workers}: {capacity.where} has {has}; valid{of_cores}: {valid}")
    return workers


def choose_worker_range(launch: LaunchConfig, capacity: Capacity, elastic: bool) -> tuple[int, int]:
    """The least and the largest number of workers; equal for a run of fixed size.

    In an elastic run (`elastic` and `launch.min_workers`) the largest may exceed what `capacity` holds now.

    Raises:
        ConfigError: more workers than `capacity` holds.
    """
    least = launch.min_workers
    if not (elastic and least):
        workers = choose_num_workers(launch, capacity)
        return workers, workers
    try:
        choose_num_workers(replace(launch, workers=least), capacity)
    except ConfigError as error:
        raise ConfigError(str(error).replace("launch.workers=", "launch.min_workers=")) from error
    return least, launch.workers or max(least, choose_num_workers(launch, capacity))


def check_min_workers(launch: LaunchConfig) -> None:
    """Check `launch.min_workers` against the launcher and `launch.workers`.

    Raises:
        ConfigError: they contradict each other.
    """
    if not launch.min_workers:
        return
    if launch.name == "local":
        raise ConfigError(f"launch.min_workers={launch.min_workers}: launch=local has a fixed size; valid: 0")
    if launch.workers and launch.min_workers > launch.workers:
        most = launch.workers
        raise ConfigError(
            f"launch.min_workers={launch.min_workers}: more than launch.workers={most}; valid: 0 to {most}"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cgroup_cores(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The least CPU quota of this process's cgroup and of those above it, in full cores (at least 1).

    Without a quota, more than any machine has.
    """
    return min((_quota_cores(folder) for folder in _own_cgroups(root, own)), default=1 << 20)


def _own_cgroups(root: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's cgroups, innermost first; `root` last, which is a container's own."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for controllers, path in (line.split(":", 2)[1:] for line in lines if line.count(":") >= 2):
        if controllers == "" or "cpu" in controllers.split(","):
            inner = root / controllers / path.strip("/") if controllers else root / path.strip("/")
            yield from (folder for folder in (inner, *inner.parents) if root in folder.parents)
    yield from (root, root / "cpu")


def _quota_cores(folder: Path) -> int:
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            values = [value for file in files for value in (folder / file).read_text().split()]
            quota, period = int(values[0]), int(values[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0:
            return max(1, quota // period)
    return 1 << 20

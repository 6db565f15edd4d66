"""Run in this process, or in every process that torchrun started. Needs torch and numpy, no Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from distcond.atomic_io import keep_present, require_present
from distcond.config.schema import Config, LaunchConfig
from distcond.distributed.rendezvous import rank_from_environment, world_from_environment
from distcond.distributed.world import all_gather_text
from distcond.errors import ConfigError, FolderLost, StopRequested
from distcond.launch.capacity import detect_capacity, workers_use_gpu
from distcond.launch.stopping import RunStopped, describe_last_checkpoint, graceful_stop
from distcond.launch.threads import choose_num_threads, num_threads
from distcond.runs.attempts import begin_attempt
from distcond.runs.failures import LaunchFailed, WorkerError, as_driver_error, capture_worker_error
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import working_dir
from distcond.training.fit import fit


def count_processes(launch: LaunchConfig) -> int:
    """The number of processes of the run: torchrun's, or 1.

    Raises:
        ConfigError: `launch` asks for another number, or for a GPU where there is none; or torchrun's variables
            contradict each other.
    """
    size = rank_from_environment().size
    if launch.workers not in (0, size):
        if size == 1:
            torchrun = f"torchrun --nproc-per-node={launch.workers} -m distcond.train launch=local ..."
            raise ConfigError(
                f"launch.workers={launch.workers} with launch=local: this is one process; use launch=ray or {torchrun}"
            )
        raise ConfigError(f"launch.workers={launch.workers}: torchrun started {size} processes; valid: 0, {size}")
    # Whether each has a GPU of its own is checked after the rendezvous: a scheduler may show each task only one.
    workers_use_gpu(launch, detect_capacity())
    return size


def train(config: Config, run_path: Path, attempt: int) -> None:
    """Run `config` to its end. Every process of torchrun calls it; rank 0's directory and attempt are used.

    Raises:
        ConfigError: an error of the user that only shows now.
        LaunchFailed: the run failed.
        RunStopped: the run was asked to stop, and has saved a checkpoint.
    """
    with graceful_stop(lambda: None, config.launch.grace) as request:
        if not _train(config, run_path, attempt, lambda: bool(request)):
            raise RunStopped(describe_last_checkpoint(run_path), request.status)


def _train(config: Config, run_path: Path, attempt: int, stop: Callable[[], bool]) -> bool:
    """Train in this process. Returns False if it was stopped."""
    try:
        with world_from_environment(config.launch.device, config.launch.timeout, stop) as world:
            if world.size > 1:
                check_distinct_gpus(all_gather_text(world, identify_gpu(world.device)), config.launch.device)
            alone = world.size == 1
            threads = choose_num_threads(config, detect_capacity()) if alone else config.launch.cpus_per_worker
            run_path, attempt = begin_attempt(world, run_path, attempt, remote_run_of(config, run_path))
            run_path = working_dir(config, run_path)
            with (
                num_threads(threads),
                keep_present(run_path),
                named_if_lost(run_path),
                capture_worker_error(run_path, world.rank, attempt),
            ):
                return fit(config, world, run_path, attempt, stop)
    except StopRequested:
        return False
    except WorkerError as error:
        raise as_driver_error(error) from error


@contextmanager
def named_if_lost(run_path: Path) -> Iterator[None]:
    """Within the block, if the run directory is lost, name that in place of the error that it caused.

    Raises:
        LaunchFailed: in place of a WorkerError.
    """
    try:
        yield
    except WorkerError as error:
        try:
            require_present(run_path)
        except FolderLost:
            lost = f"run_root: {run_path} is not accessible any more; the same command resumes once it is"
            raise LaunchFailed(f"{lost}; this caused: {error.line}") from error
        raise


def identify_gpu(device: torch.device) -> str:
    """A name that is unique among the GPUs of all machines; empty for a CPU, which processes may share."""
    if device.type != "cuda":
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    mig_slice = visible if "MIG" in visible else ""  # slices of one GPU share its UUID
    return f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid} {mig_slice}".strip()


def check_distinct_gpus(gpus: Sequence[str], device: str) -> None:
    """Refuse ranks that share a GPU. NCCL would fail with a less helpful error.

    Args:
        gpus: `identify_gpu` of every rank.
        device: `launch.device`, for the message.

    Raises:
        ConfigError: two ranks have the same GPU.
    """
    for gpu in dict.fromkeys(filter(None, gpus)):
        ranks = [str(rank) for rank, other in enumerate(gpus) if other == gpu]
        if len(ranks) > 1:
            shared = f"launch.device={device}: ranks {', '.join(ranks)} share the GPU {gpu}"
            raise ConfigError(f"{shared}; valid: as many processes per machine as it has GPUs, or launch.device=cpu")

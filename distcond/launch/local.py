"""One run in this process, or in every process that torchrun started. Needs torch and numpy, no Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from distcond.config.schema import Config, LaunchConfig
from distcond.distributed.collectives import all_gather_text
from distcond.distributed.rendezvous import RendezvousCancelled
from distcond.distributed.world import rank_from_environment, world_from_environment
from distcond.errors import ConfigError
from distcond.launch.capacity import on_gpu, this_machine
from distcond.launch.stopping import describe_last_checkpoint, graceful_stop
from distcond.runs.attempts import begin_attempt
from distcond.runs.failures import LaunchFailed, RunStopped, WorkerError, capture_worker_error
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import working_dir
from distcond.training.fit import fit


def rank() -> int:
    """Which of torchrun's processes this is; 0 without torchrun.

    Raises:
        ConfigError: its variables do not fit each other.
    """
    return rank_from_environment().rank


def process_count(launch: LaunchConfig) -> int:
    """How many processes take part: torchrun's, or this one.

    Raises:
        ConfigError: `launch` wants another number, or a GPU where there is none, or torchrun's variables do not fit.
    """
    size = rank_from_environment().size
    if launch.workers not in (0, size):
        if size == 1:
            torchrun = f"torchrun --nproc-per-node={launch.workers} -m distcond.train launch=local ..."
            raise ConfigError(f"launch.workers={launch.workers} with launch=local: this is one process; use {torchrun}")
        raise ConfigError(f"launch.workers={launch.workers}: torchrun started {size} processes; valid: 0, {size}")
    on_gpu(launch, this_machine())  # whether each has one of its own shows when they meet: a task may see its own alone
    return size


def train(config: Config, run_path: Path, attempt: int) -> None:
    """Run `config` to its end. Under torchrun every process calls it; rank 0's directory and attempt count.

    Raises:
        ConfigError: a mistake of the user's that only shows now.
        LaunchFailed: it did not finish.
        Stopped: it was asked to.
    """
    with graceful_stop(lambda: None, config.launch.grace) as request:
        if not _train(config, run_path, attempt, lambda: bool(request)):
            raise RunStopped(describe_last_checkpoint(run_path), request.status)


def device_name(device: torch.device) -> str:
    """What tells a GPU from all others, on whatever machine; empty for a CPU, which processes may share."""
    if device.type != "cuda":
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    part = visible if "MIG" in visible else ""  # parts of one GPU, which has one UUID
    return f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid} {part}".strip()


def require_own_devices(names: Sequence[str], wanted: str) -> None:
    """Refuse ranks that share a GPU: NCCL would fail on it with less to say.

    Raises:
        ConfigError: two of the ranks' `names` are the same.
    """
    for name in dict.fromkeys(filter(None, names)):
        ranks = [str(rank) for rank, other in enumerate(names) if other == name]
        if len(ranks) > 1:
            shared = f"launch.device={wanted}: ranks {', '.join(ranks)} share the GPU {name}"
            raise ConfigError(f"{shared}; valid: as many processes per machine as it has GPUs, or launch.device=cpu")


def _train(config: Config, run_path: Path, attempt: int, stop: Callable[[], bool]) -> bool:
    try:
        with world_from_environment(config.launch.device, config.launch.timeout, stop) as world:
            if world.size > 1:
                torch.set_num_threads(config.launch.cpus_per_worker)
                require_own_devices(all_gather_text(world, device_name(world.device)), config.launch.device)
            run_path, attempt = begin_attempt(world, run_path, attempt, remote_run_of(config, run_path))
            run_path = working_dir(config, run_path)
            with capture_worker_error(run_path, world.rank, attempt):
                return fit(config, world, run_path, attempt, stop)
    except RendezvousCancelled:
        return False
    except WorkerError as error:
        if error.kind == "config":
            raise ConfigError(error.line) from error
        raise LaunchFailed(f"{error.line} ({error.where})") from error

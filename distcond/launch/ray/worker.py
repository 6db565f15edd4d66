"""The train function of a Ray Train worker. It calls the same `fit` as every other launcher.

Before that it checks that all nodes have the same data, and that they share the run directory: the driver writes a
random text, the probe, into the directory, and every worker reads it.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distcond.atomic_io import atomic_write_text, keep_present
from distcond.config.overrides import from_settings
from distcond.config.schema import Config, DataConfig
from distcond.data.prepare import prepare_data
from distcond.distributed.world import World, all_gather_text, run_with_keepalive
from distcond.errors import ConfigError
from distcond.launch.ray.messages import EpochGate
from distcond.launch.stopping import stop_requested
from distcond.run_layout import PROBE_FILE
from distcond.runs.attempts import begin_attempt
from distcond.runs.failures import WorkerError, capture_worker_error
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import working_dir
from distcond.training.checkpointing import never_stop
from distcond.training.fit import fit, never_hold

#: Seconds until a network file system shows a new file on other nodes.
PROBE_SECONDS = 10.0


class WorkerSpec(NamedTuple):
    """What the driver sends to its workers, as plain values.

    Attributes:
        settings: the config, {dotted path: value}.
        run_path: the run directory.
        attempt: the lowest number that the attempt may have.
        gpu: whether each worker has a GPU.
        probe: the text in the run directory, a new one at each start; it also identifies the start in stop requests.
        gate: name of the `EpochGate` that holds the run after each epoch; "" for none.
    """

    settings: dict[str, Any]
    run_path: str
    attempt: int
    gpu: bool
    probe: str
    gate: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The form that Ray Train passes on."""
        return self._asdict()


def with_absolute_paths(config: Config) -> Config:
    """The config for workers, which may have another working directory and another `~`."""
    data = config.data
    data = replace(data, root=_absolute(data.root), cache_dir=_absolute(data.cache_dir), extra=_absolute(data.extra))
    return replace(config, init_from=_absolute(config.init_from), data=data)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def train_loop(values: dict[str, Any]) -> None:
    """Train as one worker of the run of a `WorkerSpec`. After a restart `fit` resumes from the run's checkpoints."""
    from ray.train import get_context
    from ray.train.torch import get_device

    spec, context = WorkerSpec(**values), get_context()
    config = from_settings(spec.settings)
    run_path = working_dir(config, Path(spec.run_path))
    torch.set_num_threads(config.launch.cpus_per_worker)
    device = get_device() if spec.gpu else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # each worker sees all GPUs of its node
    world = World(context.get_world_rank(), context.get_world_size(), device)
    remote = remote_run_of(config, run_path)
    if remote is None:
        _require_shared_dir(run_path, spec.probe, world.rank)
    _, attempt = begin_attempt(world, run_path, spec.attempt, remote)
    # Rank 0 polls for stop requests; `fit` tells the other ranks.
    stop = partial(stop_requested, run_path, spec.probe) if world.first else never_stop
    with keep_present(run_path), capture_worker_error(run_path, world.rank, attempt):
        verify_data_on_nodes(config.data, world)
        fit(
            config,
            world,
            run_path,
            attempt,
            stop,
            EpochGate(spec.gate).holds if spec.gate and world.first else never_hold,
        )


def _require_shared_dir(run_path: Path, probe: str, rank: int) -> None:
    from ray.util import get_node_ip_address

    if not is_shared(run_path, probe):
        node = get_node_ip_address()
        problem = f"run_root: node {node} does not see the driver's {run_path}"
        valid = "set run_root to a directory that all nodes share, or to a URI"
        raise WorkerError("unreachable", f"{problem}; {valid}", rank)


@contextmanager
def shared_dir_probe(run_path: Path) -> Iterator[str]:
    """Within the block, `run_path` holds a random text of 32 letters. Yields the text.

    Raises:
        ConfigError: it cannot be written.
    """
    probe = secrets.token_hex(16)
    try:
        atomic_write_text(run_path / PROBE_FILE, probe)
    except OSError as error:
        raise ConfigError(f"run_root: cannot write {run_path} ({error.strerror or error}); set run_root=DIR") from error
    try:
        yield probe
    finally:
        with suppress(OSError):  # an unmounted run directory must not change how the run ends
            (run_path / PROBE_FILE).unlink(missing_ok=True)


def is_shared(run_path: Path, probe: str, timeout: float = PROBE_SECONDS) -> bool:
    """Whether this node sees the directory that holds `probe`, waiting at most `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while read_probe(run_path) != probe:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def read_probe(run_path: Path) -> str:
    """The probe in a run directory; empty if there is none, that is, no driver is running."""
    try:
        return (run_path / PROBE_FILE).read_text()
    except OSError:
        return ""


def verify_data_on_nodes(data: DataConfig, world: World) -> None:
    """Prepare the data on every node, where it is converted once, and check that all nodes have the same.

    A conversion may take any time. The other workers notice if a worker dies meanwhile, but not if a conversion hangs,
    as on a file system that does not answer.

    Raises:
        ConfigError: a node lacks the data set, or has another one than the first worker.
    """
    if world.size == 1:
        return
    own = run_with_keepalive(world, lambda: prepare_data(data).fingerprint)
    answers = [line.split(" ", 1) for line in all_gather_text(world, f"{own} {socket.gethostname()}")]
    first, first_host = answers[0]
    for fingerprint, host in answers:
        if fingerprint != first:
            both = f"{first_host} ({first}) and {host} ({fingerprint})"
            raise ConfigError(f"data.root: different images on {both}; needed: the same files on every node")

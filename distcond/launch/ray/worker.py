"""The train function of a Ray Train worker: checks that all nodes share the run directory and the data, then trains.

It calls the same `fit` as every other launcher. The driver writes a random text into the run directory, and every
worker reads it; every node compares the fingerprint of its data with the first worker's.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distcond.atomic_io import atomic_write_text
from distcond.config.overrides import from_settings
from distcond.config.schema import DataConfig
from distcond.data.prepare import prepare_data
from distcond.distributed.collectives import all_gather_text
from distcond.distributed.world import World, run_with_keepalive
from distcond.errors import ConfigError
from distcond.launch.stopping import stop_requested
from distcond.runs.attempts import begin_attempt
from distcond.runs.failures import WorkerError, capture_worker_error
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import working_dir
from distcond.training.checkpoint_policy import never_stop
from distcond.training.fit import fit

PROBE_FILE = ".shared"

#: Seconds until a network file system shows a new file to the other nodes.
PROBE_SECONDS = 10.0


@contextmanager
def shared_dir_probe(run_path: Path) -> Iterator[str]:
    """Within the block `run_path` holds a word of 32 letters that no other directory holds.

    Raises:
        ConfigError: it cannot be written.
    """
    word = secrets.token_hex(16)
    try:
        atomic_write_text(run_path / PROBE_FILE, word)
    except OSError as error:
        raise ConfigError(f"run_root: cannot write {run_path} ({error.strerror}); set run_root=DIR") from error
    try:
        yield word
    finally:
        with suppress(OSError):  # a storage that is away is not the end of a run
            (run_path / PROBE_FILE).unlink(missing_ok=True)


def is_shared(run_path: Path, word: str, patience: float = PROBE_SECONDS) -> bool:
    """Whether this node sees the directory that was marked with `word`."""
    deadline = time.monotonic() + patience
    while read_probe(run_path) != word:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def read_probe(run_path: Path) -> str:
    """The word that marks a run directory now; "" if none does: no driver is at work there."""
    try:
        return (run_path / PROBE_FILE).read_text()
    except OSError:
        return ""


def verify_data_on_nodes(data: DataConfig, world: World) -> None:
    """Return once every worker can open its images: one worker of each node converts them where nobody has yet.

    A conversion may take as long as it needs. A worker that dies or stands still meanwhile is missed by the others; a
    conversion that waits for ever, as for a file system that does not answer, is nobody's to notice.

    Raises:
        ConfigError: a node does not hold the data set, or another one than the first worker's.
    """
    if world.size == 1:
        return
    own = run_with_keepalive(world, lambda: prepare_data(data).fingerprint)
    found = all_gather_text(world, f"{own} {socket.gethostname()}")
    first, first_host = found[0].split(" ", 1)
    for fingerprint, host in (line.split(" ", 1) for line in found):
        if fingerprint != first:
            both = f"{first_host} ({first}) and {host} ({fingerprint})"
            raise ConfigError(f"data.root: other images on {both}; needed: the same files on every node")


class WorkerSpec(NamedTuple):
    """What the driver tells its workers, as plain values."""

    settings: dict[str, Any]  # the config, by dotted path
    run_path: str
    attempt: int
    gpu: bool
    mark: str  # the word that the run directory holds, another one at each start

    def as_dict(self) -> dict[str, Any]:
        """The form Ray Train passes on."""
        return self._asdict()


def train_loop(order: dict[str, Any]) -> None:
    """Take part in the run of an `WorkerSpec`; on a restart `fit` resumes from the run's own checkpoints."""
    from ray.train import get_context
    from ray.train.torch import get_device
    from ray.util import get_node_ip_address

    given, context = WorkerSpec(**order), get_context()
    config = from_settings(given.settings)
    run_path = working_dir(config, Path(given.run_path))
    torch.set_num_threads(config.launch.cpus_per_worker)
    device = get_device() if given.gpu else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # a node's workers see all of its GPUs
    world = World(context.get_world_rank(), context.get_world_size(), device)
    home = remote_run_of(config, run_path)
    if home is None and not is_shared(run_path, given.mark):
        node = get_node_ip_address()  # type: ignore[no-untyped-call]
        where = f"run_root: node {node} does not see the driver's {run_path}"
        valid = "set run_root to a directory that all nodes share, or to a URI"
        raise WorkerError("away", f"{where}; {valid}", world.rank)
    _, attempt = begin_attempt(world, run_path, given.attempt, home)
    with capture_worker_error(run_path, world.rank, attempt):
        verify_data_on_nodes(config.data, world)
        # One rank looks: the others hear of it from that one.
        fit(
            config,
            world,
            run_path,
            attempt,
            partial(stop_requested, run_path, given.mark) if world.first else never_stop,
        )

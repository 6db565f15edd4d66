"""What every Ray Train worker runs: the same `engine.fit` as under any launcher."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distcond.config.overrides import from_settings
from distcond.engine.fit import fit
from distcond.engine.home import home_of
from distcond.engine.run_dir import working_place
from distcond.engine.save_points import never
from distcond.engine.world import World
from distcond.launch.attempt import begin_attempt
from distcond.launch.failure import WorkerError, told
from distcond.launch.same_images import ready
from distcond.launch.shared import is_shared
from distcond.launch.stop_file import asked


class Order(NamedTuple):
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
    """Take part in the run of an `Order`; on a restart `fit` resumes from the run's own checkpoints."""
    from ray.train import get_context
    from ray.train.torch import get_device
    from ray.util import get_node_ip_address

    given, context = Order(**order), get_context()
    config = from_settings(given.settings)
    run_path = working_place(config, Path(given.run_path))
    torch.set_num_threads(config.launch.cpus_per_worker)
    device = get_device() if given.gpu else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # a node's workers see all of its GPUs
    world = World(context.get_world_rank(), context.get_world_size(), device)
    home = home_of(config, run_path)
    if home is None and not is_shared(run_path, given.mark):
        node = get_node_ip_address()  # type: ignore[no-untyped-call]
        where = f"run_root: node {node} does not see the driver's {run_path}"
        valid = "set run_root to a directory that all nodes share, or to a URI"
        raise WorkerError("away", f"{where}; {valid}", world.rank)
    _, attempt = begin_attempt(world, run_path, given.attempt, home)
    with told(run_path, world.rank, attempt):
        ready(config.data, world)
        # One rank looks: the others hear of it from that one.
        fit(config, world, run_path, attempt, partial(asked, run_path, given.mark) if world.first else never)

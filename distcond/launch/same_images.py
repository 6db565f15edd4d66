"""Before the first step every node has its images, and all of them have the same."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from distcond.config.schema import DataConfig
from distcond.data.described import prepared
from distcond.engine.world import World
from distcond.errors import ConfigError
from distcond.launch.texts import everyones

#: As long as a conversion may take. The launcher notices a worker that dies or hangs meanwhile.
LONGEST = timedelta(days=7)


def ready(data: DataConfig, world: World) -> None:
    """Return once every worker can open its images: one worker of each node converts them where nobody has yet.

    Raises:
        ConfigError: a node does not hold the data set, or another one than the first worker's.
    """
    if world.size == 1:
        return
    # Not the group of training: its time limit is made for steps, not for converting a data set.
    group: Any = dist.new_group(backend="gloo", timeout=LONGEST)
    found = everyones(world, f"{prepared(data).fingerprint} {socket.gethostname()}", group)
    dist.destroy_process_group(group)
    first, first_host = found[0].split(" ", 1)
    for fingerprint, host in (line.split(" ", 1) for line in found):
        if fingerprint != first:
            both = f"{first_host} ({first}) and {host} ({fingerprint})"
            raise ConfigError(f"data.root: other images on {both}; needed: the same files on every node")

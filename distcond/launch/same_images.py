"""Before the first step every node has its images, and all of them have the same."""

from __future__ import annotations

import socket

from distcond.config.schema import DataConfig
from distcond.data.described import prepared
from distcond.engine.together import together
from distcond.engine.world import World
from distcond.errors import ConfigError
from distcond.launch.texts import everyones


def ready(data: DataConfig, world: World) -> None:
    """Return once every worker can open its images: one worker of each node converts them where nobody has yet.

    A conversion may take as long as it needs. A worker that dies or stands still meanwhile is missed by the others; a
    conversion that waits for ever, as for a file system that does not answer, is nobody's to notice.

    Raises:
        ConfigError: a node does not hold the data set, or another one than the first worker's.
    """
    if world.size == 1:
        return
    own = together(world, lambda: prepared(data).fingerprint)
    found = everyones(world, f"{own} {socket.gethostname()}")
    first, first_host = found[0].split(" ", 1)
    for fingerprint, host in (line.split(" ", 1) for line in found):
        if fingerprint != first:
            both = f"{first_host} ({first}) and {host} ({fingerprint})"
            raise ConfigError(f"data.root: other images on {both}; needed: the same files on every node")

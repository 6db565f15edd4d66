"""Ports that two jobs on one node do not share: a block per job, by its number, moved on where it is taken."""

from __future__ import annotations

import socket

#: Below the ports that the system hands out itself (32768 and up), above those of services.
FIRST, BLOCK, BLOCKS = 10240, 256, 88
#: How many of a block are looked at: those that Ray opens at once.
LOOKED_AT = 8


def block(number: int) -> range:
    """The ports of job `number` on this node.

    Raises:
        RuntimeError: not one block is free.
    """
    for step in range(BLOCKS):
        first = FIRST + (number + step) % BLOCKS * BLOCK
        if all(_free(port) for port in range(first, first + LOOKED_AT)):
            return range(first, first + BLOCK)
    raise RuntimeError(f"no free ports from {FIRST} to {FIRST + BLOCKS * BLOCK - 1} on this node")


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

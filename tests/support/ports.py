"""Ports that the kernel gives, and nobody else takes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port for a server that is to start, stop and start again there; kept from everybody else within the block.

    While no server listens, connections are refused. A server can listen that sets SO_REUSEADDR, as node, asyncio and
    torch do.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        port: int = holder.getsockname()[1]
        yield port

"""Stores in which ranks find each other: a file for ranks of one machine, else TCP at one address of rank 0's machine.

torch's own TCPStore listens at every address, and asks nobody for a token: whoever reaches its port reads and writes
its keys. A file in a private directory can be opened by this user alone. Between machines the port remains open to
those who reach the address; see docs/security.md.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore

_log = logging.getLogger(__name__)

#: Gloo's choice of a network interface, and the one that no other machine reaches.
_GLOO_INTERFACE, _LOOPBACK = "GLOO_SOCKET_IFNAME", "lo"


def serve_store(host: str, port: int, timeout: timedelta) -> tuple[TCPStore, str]:
    """A store that listens at the address of `host` alone, and that address.

    Where `host` is no address of this machine's network (a name that leads to loopback here only, or to a translated
    address), it listens at all addresses, with a warning.

    Args:
        host: name or address by which the other ranks reach this machine.
        port: 0 = any free one; see `TCPStore.port`.
        timeout: of the store's operations.

    Raises:
        RuntimeError: `host` cannot be resolved, or the port is taken.
    """
    try:
        listener = _bind(host, port) or _bind_everywhere(host, port)
    except OSError as error:
        raise RuntimeError(f"the ranks' store at {host}, port {port}: {error.strerror}") from error
    address, port = listener.getsockname()[:2]
    client = _loopback_of(listener) if ipaddress.ip_address(address).is_unspecified else address
    store = TCPStore(
        client, port, is_master=True, wait_for_workers=False, timeout=timeout, master_listen_fd=listener.detach()
    )
    return store, address


def join_store(host: str, port: int, timeout: timedelta) -> TCPStore:
    """The store that rank 0 serves at `host`.

    Raises:
        RuntimeError: none answers within `timeout`.
    """
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine wherever it is written."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def gloo_on_loopback() -> Iterator[None]:
    """Within the block, gloo listens at the loopback address, unless the user has chosen an interface."""
    chosen = _GLOO_INTERFACE in os.environ
    if not chosen and has_loopback():
        os.environ[_GLOO_INTERFACE] = _LOOPBACK
    try:
        yield
    finally:
        if not chosen:
            os.environ.pop(_GLOO_INTERFACE, None)


def has_loopback() -> bool:
    """Whether this machine has an interface `lo` with an address, unlike a network namespace where it is off."""
    if _LOOPBACK not in [name for _, name in socket.if_nameindex()]:
        return False
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            return False
    return True


def _bind(host: str, port: int) -> socket.socket | None:
    """A socket at the first address of `host` that this machine has; None if there is none."""
    for family, kind, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if is_loopback(str(place[0])) and not is_loopback(host):
            continue  # /etc/hosts may say so of this machine's own name: others could not connect
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL:
                continue
            raise
        return listener
    return None


def _bind_everywhere(host: str, port: int) -> socket.socket:
    what = "no address of this machine's network, so the ranks' store listens at all its addresses"
    _log.warning("%s (MASTER_ADDR, or Ray's address of this node) is %s", host, what)
    return socket.create_server(("", port))


def _loopback_of(listener: socket.socket) -> str:
    return "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"

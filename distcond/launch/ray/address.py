"""Whether the Ray that RAY_ADDRESS names answers: found out in seconds, and before a run waits for it.

`ray.init` itself tries for a quarter of an hour, deaf to SIGTERM, where nothing listens, and aborts the process where a
token is asked for and there is none.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from distcond.errors import ConfigError
from distcond.runs.failures import one_line

#: Seconds in which a Ray has to answer.
SECONDS = 30.0

#: Seconds in which its port has to take a connection: a head that starts anew refuses for a moment.
PORT_SECONDS = 8.0

_VALID = "set HOST:PORT of a Ray that is up, or unset RAY_ADDRESS to start one for this run"
_TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"


@cache
def require_answer(address: str) -> None:
    """See that a Ray at `address` (HOST:PORT or "auto") answers this process; only asks it until it does.

    Raises:
        ConfigError: none is there, it does not answer, or it does not take this process's token.
    """
    found: list[ConfigError | None] = []
    # In a thread: while Ray waits, the main thread can be interrupted.
    thread = threading.Thread(target=lambda: found.append(_refusal(address)), name="ray-address", daemon=True)
    with _stderr_closed():
        thread.start()
        deadline = time.monotonic() + SECONDS
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.2)
    if not found:
        raise ConfigError(f"RAY_ADDRESS={address}: no Ray answers there within {SECONDS:g} s; {_VALID}")
    if found[0] is not None:
        raise found[0]


def _refusal(address: str) -> ConfigError | None:
    what = f"RAY_ADDRESS={address}"
    try:
        host, port = _host_and_port(address)
        _knock(host, port)
    except (OSError, ValueError) as error:
        return ConfigError(f"{what}: no Ray is there ({one_line(error)}); {_VALID}")
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    try:
        _require_token(address)
        GcsClient(address=f"{host}:{port}").internal_kv_get(b"distcond", timeout=SECONDS)
    except AuthenticationError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        return ConfigError(f"{what}: it asks for a token and does not take this one ({reason}); {_TOKEN}")
    except Exception as error:
        return ConfigError(f"{what}: no Ray answers there ({one_line(error)}); {_VALID}")
    return None


def _host_and_port(address: str) -> tuple[str, int]:
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        address = canonicalize_bootstrap_address_or_die("auto")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError("not HOST:PORT")
    return host.strip("[]"), int(port)


def _knock(host: str, port: int) -> None:
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=PORT_SECONDS).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _require_token(address: str) -> None:
    """What `ray.init` does before it connects; without it Ray aborts the process where there is no token."""
    from ray._private.authentication import authentication_token_setup as setup

    if address == "auto":
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    setup.ensure_token_if_auth_enabled(create_token_if_missing=False)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Ray's C++ part writes lines of its own to standard error; what matters of them is in the refusal."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

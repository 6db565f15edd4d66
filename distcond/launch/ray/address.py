"""Check within seconds that the Ray cluster at RAY_ADDRESS answers, before a run waits for it.

`ray.init` itself tries for 15 minutes and ignores SIGTERM where nothing listens, and aborts the process where a token
is required and none is set.
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
from distcond.launch.ray.shared_machine import check_found_address, check_token_file
from distcond.runs.failures import format_error_line

#: Seconds in which the cluster has to answer.
SECONDS = 30.0

#: Seconds in which its port has to accept a connection: a head that is restarting refuses for a moment.
PORT_SECONDS = 8.0

_VALID = "set HOST:PORT of a running Ray cluster, or unset RAY_ADDRESS to start a local one for this run"
_TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"


@cache
def require_answer(address: str) -> None:
    """Check that a Ray cluster at `address` (HOST:PORT or "auto") answers this process. Successes are cached.

    Raises:
        ConfigError: nothing listens there, it does not answer, or it rejects this process's token.
    """
    outcome: list[ConfigError | None] = []
    # In a thread: the main thread must stay interruptible while Ray waits.
    thread = threading.Thread(target=lambda: outcome.append(_find_problem(address)), name="ray-address", daemon=True)
    with _silence_stderr():
        thread.start()
        deadline = time.monotonic() + SECONDS
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.2)
    if not outcome:
        raise ConfigError(f"RAY_ADDRESS={address}: no answer from a Ray cluster within {SECONDS:g} s; {_VALID}")
    if outcome[0] is not None:
        raise outcome[0]


def _find_problem(address: str) -> ConfigError | None:
    where = f"RAY_ADDRESS={address}"
    try:
        check_token_file()
        host, port = _parse_address(address)
        _wait_for_port(host, port)
    except ConfigError as error:
        return error
    except (OSError, ValueError) as error:
        return ConfigError(f"{where}: no Ray cluster there ({format_error_line(error)}); {_VALID}")
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    try:
        _require_token(address)
        GcsClient(address=f"{host}:{port}").internal_kv_get(b"distcond", timeout=SECONDS)
    except AuthenticationError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        return ConfigError(f"{where}: the cluster requires a token and rejects this one ({reason}); {_TOKEN}")
    except Exception as error:
        return ConfigError(f"{where}: no answer from a Ray cluster ({format_error_line(error)}); {_VALID}")
    return None


def _parse_address(address: str) -> tuple[str, int]:
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        address = canonicalize_bootstrap_address_or_die("auto")
        check_found_address(address)
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError("not HOST:PORT")
    return host.strip("[]"), int(port)


def _wait_for_port(host: str, port: int) -> None:
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
    """Raise AuthenticationError if a token is required and none is set, as `ray.init` does.

    Without this check the client below would abort the process.
    """
    from ray._private.authentication import authentication_token_setup as setup

    if address == "auto":
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    setup.ensure_token_if_auth_enabled(create_token_if_missing=False)


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Drop what Ray's C++ part writes to standard error: the raised error says what matters."""
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)

"""Ranks of one machine meet in a private file; those of several at one address."""

from __future__ import annotations

import os
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from distcond.distributed.meeting_place import meeting_place
from distcond.distributed.rendezvous import is_one_machine
from distcond.distributed.stores import gloo_on_loopback, join_store, serve_store
from distcond.errors import StopRequested
from distcond.training.checkpointing import never_stop
from support.forked import fork
from support.leftovers import listening
from support.processes import LIMIT
from support.waiting import wait_until

SOON = timedelta(seconds=LIMIT)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, and torchrun's variables."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("DISTCOND_PRIVATE_DIR", raising=False)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def meet(rank: int, start: str) -> str:
    """What rank 0 tells this rank in the store of the start."""
    with meeting_place(rank, 3, LIMIT, never_stop) as store:
        if rank == 0:
            store.set("address", start)
        return store.get("address").decode()


def test_ranks_meet_in_any_order_and_leave_nothing(place: Path) -> None:
    for start, order in enumerate([[0, 1, 2], [2, 1, 0], [1, 0, 2]]):
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda rank, start=start: meet(rank, f"of {start}"), order)) == [f"of {start}"] * 3
    assert list(place.iterdir()) == []


def test_start_after_a_killed_one_is_met(place: Path) -> None:
    child = fork(meet, 0, "dead")
    wait_until(lambda: list(place.glob("*/*/current")), "rank 0 of the first start")
    child.kill()
    child.join()
    with ThreadPoolExecutor(3) as pool:
        ranks = [pool.submit(meet, rank, "alive") for rank in (1, 2, 0)]
        assert [rank.result() for rank in ranks] == ["alive"] * 3


def test_another_run_with_the_same_port_is_refused(place: Path) -> None:
    child = fork(meet, 0, "first")
    try:
        wait_until(lambda: list(place.glob("*/*/current")), "rank 0 of the first run")
        with pytest.raises(RuntimeError, match="MASTER_PORT=1"), meeting_place(0, 3, 0.2, never_stop):
            pass
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("rank", [0, 1])
def test_missing_ranks_and_stop_requests_end_the_wait(rank: int) -> None:
    with pytest.raises(RuntimeError, match="of 3 processes"), meeting_place(rank, 3, 0.1, never_stop):
        pass
    asked = iter([False, True, True])
    with pytest.raises(StopRequested), meeting_place(rank, 3, LIMIT, lambda: next(asked)):
        pass


@pytest.mark.parametrize(
    ("local", "address", "one"),
    [("3", "host", True), ("1", "host", False), ("", "host", False), ("", "localhost", True), ("1", "127.0.0.2", True)],
)
def test_one_machine_is_told_by_the_variables(
    local: str, address: str, one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", address)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert is_one_machine() == one


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("127.9.8.7", "127.9.8.7")])
def test_store_listens_at_one_address(host: str, address: str) -> None:
    store, at = serve_store(host, 0, SOON)
    assert at == address
    assert listening([os.getpid()]) >= {_as_in_proc(address)}
    assert not listening([os.getpid()]) & {"00000000", "0" * 32}
    join_store(host, store.port, SOON).set("key", "value")
    assert store.get("key") == b"value"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.1.1.1", store.port))


def test_store_at_an_unusable_address_warns(caplog: pytest.LogCaptureFixture) -> None:
    store, at = serve_store("192.0.2.1", 0, SOON)
    assert at in ("0.0.0.0", "::") and "192.0.2.1 (MASTER_ADDR" in caplog.text
    assert store.check(["key"]) is False


def test_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"127.0.0.1, port {port}: Address already in use"):
            serve_store("127.0.0.1", port, SOON)


def test_chosen_interface_of_gloo_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with gloo_on_loopback():
        assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    with gloo_on_loopback():
        assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"


def _as_in_proc(address: str) -> str:
    return socket.inet_aton(address)[::-1].hex().upper()

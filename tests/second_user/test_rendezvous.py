"""Ranks on one machine as a second user sees them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support import second_user
from support.leftovers import listening
from support.ports import held_port
from support.processes import start
from support.waiting import wait_until

pytestmark = pytest.mark.cluster

RANK = """
import sys
from distcond.distributed.rendezvous import world_from_environment
with world_from_environment("cpu", 120.0, lambda: False) as world:
    print("sum", int(world.all_reduce_max([float(world.rank)])[0]), flush=True)
    sys.stdin.read()
"""
#: 127.0.0.1, as /proc writes it on a little-endian machine.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_ranks_of_one_machine_offer_nothing_to_others(shared_path: Path) -> None:
    with held_port() as port:
        common = {"MASTER_ADDR": "some-host", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        env = {**os.environ, **common, "TMPDIR": str(shared_path)}
        env.pop("GLOO_SOCKET_IFNAME", None)
        with (
            start([sys.executable, "-c", RANK], env=env | {"RANK": "0", "LOCAL_RANK": "0"}) as first,
            start([sys.executable, "-c", RANK], env=env | {"RANK": "1", "LOCAL_RANK": "1"}) as other,
        ):
            for rank in (first, other):
                wait_until(lambda rank=rank: "sum 1" in rank.output, "the world", process=rank)
            assert listening([first.pid, other.pid]) <= LOOPBACK
            (folder,) = shared_path.iterdir()
            assert list(folder.glob("*/store-*")) != []
            assert second_user.do(lambda: os.listdir(folder)) == "PermissionError"
            assert second_user.do(lambda: folder.rename(shared_path / "x")) == "PermissionError"
            for rank in (first, other):
                rank.close_input()
            assert (first.wait(), other.wait()) == (0, 0), first.output + other.output
    assert list(shared_path.iterdir()) == []


def test_place_of_another_user_is_refused(shared_path: Path) -> None:
    place = shared_path / f"distcond-user-{os.geteuid()}"
    assert second_user.do(lambda: place.mkdir(mode=0o777)) == ""
    env = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "0"}
    with start([sys.executable, "-c", RANK], env=env | {"TMPDIR": str(shared_path)}) as rank:
        assert rank.wait() == 1
        assert f"ConfigError: {place}: belongs to user {second_user.NUMBER}" in rank.output
    assert list(place.iterdir()) == []

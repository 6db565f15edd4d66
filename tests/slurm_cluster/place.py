"""Where the SLURM of the tests keeps its files, what its nodes are called, and what it can do on this machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/run/distcond-slurm")
CONF = ROOT / "slurm.conf"
BRIDGE, PREFIX, SUBNET = "dcslurm0", "dcs-", "10.213.77"
NODES = ("n1", "n2", "n3", "n4")
#: Controllers that a job's memory, devices and end are held by.
_CGROUP_V1 = ("freezer", "memory", "devices")


class Abilities(NamedTuple):
    """What this machine allows.

    Attributes:
        namespaces: each node in a network, process table and host name of its own; else all share the machine's.
        cgroups: SLURM confines jobs: memory is enforced, and nothing of a job outlives it.
        accounting: slurmdbd and MariaDB are there: `sacct` answers.
    """

    namespaces: bool
    cgroups: bool
    accounting: bool


def abilities() -> Abilities:
    """Try what can be tried."""
    accounting = all(Path(f"/usr/sbin/{name}").exists() for name in ("slurmdbd", "mariadbd"))
    writable = all(os.access(f"/sys/fs/cgroup/{name}/cgroup.procs", os.W_OK) for name in _CGROUP_V1)
    return Abilities(_namespaces(), writable, accounting)


def remembered() -> Abilities:
    """Those of the SLURM that is up."""
    return Abilities(**json.loads((ROOT / "abilities.json").read_text()))


def remember(found: Abilities) -> None:
    """For later commands on the same SLURM."""
    (ROOT / "abilities.json").write_text(json.dumps(found._asdict()))


def address(node: str, found: Abilities) -> str:
    """A node's IPv4 address."""
    return f"{SUBNET}.{10 + NODES.index(node) + 1}" if found.namespaces else "127.0.0.1"


def _namespaces() -> bool:
    tries = (
        "unshare --net --mount --uts --pid --fork --mount-proc true",
        f"ip link add {PREFIX}a type veth peer name {PREFIX}b",
        f"ip link del {PREFIX}a",
    )
    return all(subprocess.run(words.split(), capture_output=True).returncode == 0 for words in tries)

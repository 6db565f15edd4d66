"""One node of the tests' SLURM: a slurmd, where possible with a network, process table and host name of its own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import daemons
from place import BRIDGE, NODES, PREFIX, ROOT, SUBNET, Abilities, address

# bash is process 1 of the node: it reaps orphans, and when it dies the kernel ends everything else there. The disk is
# the machine's, like the shared home directory of a cluster.
_INIT = """\
hostname {node}
mount -t tmpfs shm /dev/shm
mount --bind {root}/hosts /etc/hosts
mount --bind {root}/nsswitch.conf /etc/nsswitch.conf
/usr/sbin/slurmd -D -N {node} &
while :; do sleep 1000 & wait $!; done
"""


def on(node: str, found: Abilities) -> None:
    """Switch a node on."""
    (ROOT / f"spool.{node}").mkdir(exist_ok=True)
    daemon = ["/usr/sbin/slurmd", "-D", "-N", node]
    if found.namespaces:
        _network(node, found)
        apart = ["nsenter", f"--net=/run/netns/{PREFIX}{node}", "unshare", "--mount", "--uts", "--pid", "--fork"]
        daemon = [*apart, "--kill-child", "--mount-proc", "bash", "-c", _INIT.format(node=node, root=ROOT)]
    daemons.start(node, daemon, {"SLURM_CONF": str(ROOT / "slurm.conf")})


def off(node: str) -> None:
    """Cut its power: everything on it ends at once."""
    daemons.stop(node, signal.SIGKILL)


def remove_networks() -> None:
    """Every node's network and the bridge between them."""
    for node in NODES:
        if Path(f"/run/netns/{PREFIX}{node}").exists():
            _ip(f"netns del {PREFIX}{node}")
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        _ip(f"link del {BRIDGE}")


def add_bridge() -> None:
    """The cable that all nodes and the controller are on."""
    _ip(f"link add {BRIDGE} type bridge")
    _ip(f"addr add {SUBNET}.1/24 dev {BRIDGE}")
    _ip(f"link set {BRIDGE} up")


def _network(node: str, found: Abilities) -> None:
    space = f"{PREFIX}{node}"
    if Path(f"/run/netns/{space}").exists():
        return
    _ip(f"netns add {space}")
    _ip(f"link add {space} type veth peer name eth0 netns {space}")
    _ip(f"link set {space} master {BRIDGE} up")
    _ip(f"-n {space} addr add {address(node, found)}/24 dev eth0")
    _ip(f"-n {space} link set eth0 up")
    _ip(f"-n {space} link set lo up")
    _ip(f"-n {space} route add default via {SUBNET}.1")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)

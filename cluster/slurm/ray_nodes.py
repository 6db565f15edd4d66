"""A Ray over the nodes of one job: its head on the first, the others join, and at the end all of it is gone.

Never `ray stop`, which ends every Ray on a machine: each node ends the processes that it started, and those that carry
this job's token.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.slurm.job_environment import JobEnvironment, free_port_block, last_host, own_address
from cluster.slurm.process import POLL, ChildProcess, child_environment, module_command
from cluster.slurm.profile import Profile
from distcond.atomic_io import atomic_write_text
from distcond.launch.ray.local_auth import processes_with_token

#: Seconds for all nodes to be there, and for Ray's processes to end by themselves.
START, GRACE = 300.0, 10.0
#: Nothing large goes through Ray.
_OBJECT_STORE = 100 * 2**20
#: Unless the profile says otherwise: nobody else is on these cores, and nothing is reported to Ray's makers.
_ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # When Ray is ended the run is over; but the head would wait to be drained for half a minute.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}


class RayFailed(Exception):
    """The nodes did not come together."""


@contextmanager
def start_head(place: JobEnvironment, profile: Profile, sweep: Path) -> Iterator[dict[str, str]]:
    """On the first node: the head, and the variables with which a driver joins it, once every node is there.

    Raises:
        RayFailed: the head does not start, or nodes are missing.
    """
    folder = _folder(place, sweep)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    _write_token(folder / "token")
    ports, address = free_port_block(place.number), own_address(_other_host(place))
    variables = _variables(profile, folder) | {"RAY_ADDRESS": f"{address}:{ports[0]}"}
    words = ["--head", f"--port={ports[0]}", "--include-dashboard=false"]
    atomic_write_text(folder / "address.json", json.dumps({"host": address, "port": ports[0]}))
    try:
        with _node(place, profile, folder, address, ports, words) as head:
            _wait_for_nodes(place, profile, variables, head)
            try:
                yield variables
            finally:
                _mark_done(folder)  # while the head still answers: the others leave in peace
    finally:
        _mark_done(folder)
        end = time.monotonic() + GRACE
        while len(list(folder.glob("left-*"))) < place.nodes - 1 and time.monotonic() < end:
            time.sleep(POLL)  # the end of this task may be the end of the others
        (folder / "token").unlink(missing_ok=True)


def start_worker(place: JobEnvironment, profile: Profile, sweep: Path) -> None:
    """On every other node: join the head, and stay until it is done.

    Raises:
        RayFailed: there is no head, or this node's Ray has ended.
    """
    folder = _folder(place, sweep)
    told = _await_head(folder)
    address, ports = own_address(told["host"]), free_port_block(place.number)
    words = [f"--address={told['host']}:{told['port']}"]
    with _node(place, profile, folder, address, ports, words) as node:
        while not _done(folder):
            if not node.is_alive() and not _done(folder):
                raise RayFailed(f"Ray on node {place.node} has ended; see {_log(folder, place)}")
            time.sleep(POLL)
    (folder / f"left-{place.node}").touch()


class Node:
    """Ray on this node. It gives itself half a minute to start; where that is too short, it is started again."""

    def __init__(self, command: list[str], variables: dict[str, str], log: Path) -> None:
        self.command, self.variables, self.log = command, variables, log
        self.until = time.monotonic() + START
        self.child = self._start()

    def is_alive(self) -> bool:
        """Whether it runs, perhaps anew."""
        if self.child.status() is not None and time.monotonic() < self.until:
            self.child.end()
            self.child = self._start()
        return self.child.status() is None

    def _start(self) -> ChildProcess:
        return ChildProcess(self.command, self.variables, self.log, ignore_sigusr2=True)


@contextmanager
def _node(
    place: JobEnvironment, profile: Profile, folder: Path, address: str, ports: range, words: list[str]
) -> Iterator[Node]:
    """Ray on this node, gone after the block."""
    temporary = Path(f"/tmp/dc-{place.key}-{place.node}")
    shutil.rmtree(temporary, ignore_errors=True)
    start = ["start", "--block", f"--node-ip-address={address}", f"--temp-dir={temporary}"]
    start += [*words, *_resources(profile), *_ports(ports)]
    variables = _variables(profile, folder) | {"RAY_TMPDIR": str(temporary)}
    node = Node(module_command("ray.scripts.scripts", start, profile), variables, _log(folder, place))
    try:
        yield node
    finally:
        node.child.end(GRACE)
        _end_rest(folder / "token")
        shutil.rmtree(temporary, ignore_errors=True)


def _end_rest(token: Path) -> None:
    """End what has left the process group, and wait for it: what still runs still writes into the directory."""
    end = time.monotonic() + GRACE
    while (left := processes_with_token(token)) and time.monotonic() < end:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(POLL)


def _resources(profile: Profile) -> list[str]:
    """What SLURM has given this node: Ray itself would count the whole machine."""
    words = [f"--num-cpus={profile.cpus_per_task}", f"--num-gpus={profile.gpus_per_node}"]
    words += [f"--memory={int(profile.memory_gb * 2**30) - _OBJECT_STORE}"] if profile.memory_gb else []
    return [*words, f"--object-store-memory={_OBJECT_STORE}", "--disable-usage-stats"]


def _ports(ports: range) -> list[str]:
    """All that Ray would open at a fixed or random port; the first is the head's."""
    names = (
        "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "node-manager-port",
        "object-manager-port", "metrics-export-port",
    )  # fmt: skip
    words = [f"--{name}={port}" for name, port in zip(names, ports[1:], strict=False)]
    return [*words, f"--min-worker-port={ports[16]}", f"--max-worker-port={ports[-1]}"]


def _variables(profile: Profile, folder: Path) -> dict[str, str]:
    """The environment of everything of this Ray: it admits nobody without the token."""
    # A token of one's own in the environment would come before the path; an address would lead elsewhere.
    not_ours = ("RAY_AUTH_TOKEN", "RAY_ADDRESS")
    given = {name: value for name, value in child_environment(profile).items() if name not in not_ours}
    return {**_ALONE, **given, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}


def _wait_for_nodes(place: JobEnvironment, profile: Profile, variables: dict[str, str], head: Node) -> None:
    folder = Path(variables["RAY_AUTH_TOKEN_PATH"]).parent
    words = [variables["RAY_ADDRESS"], str(place.nodes), str(START), str(folder / "up")]
    waiting = ChildProcess(module_command("cluster.slurm.await_nodes", words, profile), variables)
    try:
        while (status := waiting.status()) is None and head.is_alive():
            time.sleep(POLL)
    finally:
        waiting.end()
    if status != 0:
        raise RayFailed(f"no Ray over {place.nodes} nodes; see {folder}/node-*.log")


def _await_head(folder: Path) -> dict[str, str]:
    end = time.monotonic() + START
    while not (folder / "up").exists():
        if time.monotonic() > end or _done(folder):
            raise RayFailed(f"no head of Ray after {START:.0f} s; see {folder}")
        time.sleep(POLL)
    told: dict[str, str] = json.loads((folder / "address.json").read_text())
    return told


def _write_token(file: Path) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(secrets.token_hex(32))


def _folder(place: JobEnvironment, sweep: Path) -> Path:
    """What the nodes tell each other: on the shared disk, a new one for each start of the job."""
    return sweep / "ray" / place.key


def _log(folder: Path, place: JobEnvironment) -> Path:
    return folder / f"node-{place.node}.log"


def _mark_done(folder: Path) -> None:
    (folder / "done").touch()


def _done(folder: Path) -> bool:
    return (folder / "done").exists()


def _other_host(place: JobEnvironment) -> str:
    """A host on the network that the nodes talk over."""
    return last_host(os.environ.get("SLURM_JOB_NODELIST", "localhost")) if place.nodes > 1 else "localhost"

"""A Ray cluster on the nodes of one job: the head on the first node, the others join, and all of it ends with the job.

Never calls `ray stop`, which would end every Ray cluster on a machine. Each node ends the processes that it started and
those that have this job's token.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.slurm.job_environment import JobEnvironment, free_port_block, last_host, own_address
from cluster.slurm.process import POLL, ChildProcess, child_environment, module_command, processes_with_token
from cluster.slurm.profile import Profile
from distcond.atomic_io import atomic_write_text
from distcond.errors import ConfigError
from distcond.private_dir import VARIABLE, make_private_dir, temporary_private_dir, write_token

#: Seconds for all nodes to join, and for Ray's processes to exit by themselves.
START, GRACE = 300.0, 10.0

#: The directory of Ray on a node, below a private one. The path of its sockets has at most 107 bytes, of which Ray
#: appends 64.
_RAY_SUBDIR, _MAX_PATH_LENGTH, _PARENTS = "r", 41, ("/tmp", "/var/tmp")

#: Small, since nothing large goes through Ray.
_OBJECT_STORE = 100 * 2**20

#: Defaults, which the profile may change: the job has its cores to itself, and no usage statistics are sent.
_RAY_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # When Ray is ended the run is over, but by default the head would wait 30 s to be drained.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}


class RayFailed(Exception):
    """The Ray cluster of the job did not start, or lost a node."""


@contextmanager
def start_head(
    job_env: JobEnvironment, profile: Profile, sweep: Path, stopped: Callable[[], bool]
) -> Iterator[dict[str, str]]:
    """On the first node: run the head. Once every node has joined, yields the variables for a driver to join.

    Once the job is `stopped`, SLURM leaves no time to be polite: waiting ends, and Ray is killed.

    Raises:
        RayFailed: the head does not start, nodes are missing, or the job was stopped before.
    """
    folder = _make_exchange_folder(job_env, profile, sweep)
    token = folder / "token"
    try:
        variables = _ray_environment(profile, folder, write_token(token))
        ports, address = free_port_block(job_env.number), own_address(_host_on_job_network(job_env))
        variables["RAY_ADDRESS"] = f"{address}:{ports[0]}"
        args = ["--head", f"--port={ports[0]}", "--include-dashboard=false"]
        atomic_write_text(folder / "address.json", json.dumps({"host": address, "port": ports[0]}))
        with _run_node(
            job_env, profile, folder, variables, [f"--node-ip-address={address}", *args], ports, stopped
        ) as head:
            _wait_for_nodes(job_env, profile, variables, head, stopped)
            token.unlink()  # every node has it in its environment
            try:
                yield variables
            finally:
                _mark_done(folder)  # while the head still answers, so that the other nodes leave without errors
    finally:
        token.unlink(missing_ok=True)
        _mark_done(folder)
        _wait_for_others_to_leave(folder, job_env.nodes - 1)


def start_worker(
    job_env: JobEnvironment, profile: Profile, sweep: Path, stopped: Callable[[], bool], must_leave: Callable[[], bool]
) -> None:
    """On every other node: join the head, and return once the head is done or this node `must_leave`.

    Raises:
        RayFailed: there is no head, this node's Ray has exited, or the job was stopped before there was a head.
    """
    folder = _exchange_folder(job_env, sweep)
    head = _wait_for_head(folder, stopped)
    variables = _ray_environment(profile, folder, _read_token(folder))
    address, ports = own_address(head["host"]), free_port_block(job_env.number)
    args = [f"--address={head['host']}:{head['port']}", f"--node-ip-address={address}"]
    with _run_node(job_env, profile, folder, variables, args, ports, stopped) as node:
        while not _is_done(folder) and not must_leave():
            if not node.is_alive() and not _is_done(folder):
                raise RayFailed(f"Ray on node {job_env.node} has exited; see {_log_file(folder, job_env)}")
            time.sleep(POLL)
    (folder / f"left-{job_env.node}").touch()


class Node:
    """Ray on this node. Restarted until `START` seconds have passed: Ray gives itself only 30 s to start."""

    def __init__(self, command: list[str], variables: dict[str, str], log: Path) -> None:
        self.command, self.variables, self.log = command, variables, log
        self.start_deadline = time.monotonic() + START
        self.child = self._start()

    def is_alive(self) -> bool:
        """Whether it runs, after a restart if that was needed."""
        if self.child.status() is not None and time.monotonic() < self.start_deadline:
            self.child.end()
            self.child = self._start()
        return self.child.status() is None

    def _start(self) -> ChildProcess:
        return ChildProcess(self.command, self.variables, self.log, ignore_sigusr2=True)


@contextmanager
def _run_node(
    job_env: JobEnvironment, profile: Profile, folder: Path, variables: Mapping[str, str], args: Sequence[str],
    ports: range, stopped: Callable[[], bool],
) -> Iterator[Node]:  # fmt: skip
    """Within the block Ray runs on this node. Its processes and files are removed afterwards."""
    # Ray makes its own directory and everything in it writable by every user.
    with temporary_private_dir(_MAX_PATH_LENGTH, _PARENTS, f"dc-{job_env.key}-") as temporary:
        start = ["start", "--block", f"--temp-dir={temporary / _RAY_SUBDIR}"]
        start += [*args, *_resource_args(profile), *_port_args(ports)]
        command = module_command("ray.scripts.scripts", start, profile)
        node = Node(
            command, {**variables, "RAY_TMPDIR": str(temporary), VARIABLE: str(temporary)}, _log_file(folder, job_env)
        )
        try:
            yield node
        finally:
            node.child.end(0.0 if stopped() else GRACE)
            _kill_remaining(folder / "token")


def _kill_remaining(token: Path) -> None:
    """Kill processes that have left the process group and wait for them: they would write into deleted directories."""
    end = time.monotonic() + GRACE
    while (remaining := processes_with_token(token)) and time.monotonic() < end:
        for process in remaining:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(POLL)


def _resource_args(profile: Profile) -> list[str]:
    """What SLURM has given this job on the node: Ray itself would count the full machine."""
    args = [f"--num-cpus={profile.cpus_per_task}", f"--num-gpus={profile.gpus_per_node}"]
    args += [f"--memory={int(profile.memory_gb * 2**30) - _OBJECT_STORE}"] if profile.memory_gb else []
    return [*args, f"--object-store-memory={_OBJECT_STORE}", "--disable-usage-stats"]


def _port_args(ports: range) -> list[str]:
    """All ports that Ray would otherwise open at fixed or random numbers; the first is the head's."""
    names = (
        "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "node-manager-port",
        "object-manager-port", "metrics-export-port",
    )  # fmt: skip
    args = [f"--{name}={port}" for name, port in zip(names, ports[1:], strict=False)]
    return [*args, f"--min-worker-port={ports[16]}", f"--max-worker-port={ports[-1]}"]


def _ray_environment(profile: Profile, folder: Path, token: str) -> dict[str, str]:
    """The environment of all processes of this cluster, which requires its token."""
    # An address would lead to another cluster.
    inherited = {name: value for name, value in child_environment(profile).items() if name != "RAY_ADDRESS"}
    # Ray takes the token; the path, where it is only until every node has it, marks the processes of this cluster.
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    return {**_RAY_DEFAULTS, **inherited, **auth}


def _wait_for_nodes(
    job_env: JobEnvironment, profile: Profile, variables: dict[str, str], head: Node, stopped: Callable[[], bool]
) -> None:
    folder = Path(variables["RAY_AUTH_TOKEN_PATH"]).parent
    args = [variables["RAY_ADDRESS"], str(job_env.nodes), str(START), str(folder / "up")]
    child = ChildProcess(module_command("cluster.slurm.await_nodes", args, profile), variables)
    try:
        while (status := child.status()) is None and head.is_alive() and not stopped():
            time.sleep(POLL)
    finally:
        child.end()
    if status != 0:
        raise RayFailed(f"no Ray cluster on {job_env.nodes} nodes; see {folder}/node-*.log")


def _wait_for_head(folder: Path, stopped: Callable[[], bool]) -> dict[str, str]:
    end = time.monotonic() + START
    while not (folder / "up").exists():
        if time.monotonic() > end or _is_done(folder) or stopped():
            raise RayFailed(f"no Ray head after {START:.0f} s; see {folder}")
        time.sleep(POLL)
    head: dict[str, str] = json.loads((folder / "address.json").read_text())
    return head


def _wait_for_others_to_leave(folder: Path, others: int) -> None:
    """The end of the first task may end the others before they have cleaned up."""
    end = time.monotonic() + GRACE
    while len(list(folder.glob("left-*"))) < others and time.monotonic() < end:
        time.sleep(POLL)


def _read_token(folder: Path) -> str:
    """The token of the head of a job that is still going on."""
    try:
        return (folder / "token").read_text()
    except FileNotFoundError:
        raise RayFailed(f"the head does not wait for this node any more; see {folder}") from None


def _make_exchange_folder(job_env: JobEnvironment, profile: Profile, sweep: Path) -> Path:
    """The exchange folder, of mode 0700. Tokens of earlier starts of the job, if it was killed in one, are removed."""
    folder = _exchange_folder(job_env, sweep)
    try:
        make_private_dir(folder, profile.trust_group)
    except ConfigError as error:
        raise RayFailed(str(error)) from error
    for token in folder.parent.glob(f"{job_env.job}-*/token"):
        token.unlink()
    return folder


def _exchange_folder(job_env: JobEnvironment, sweep: Path) -> Path:
    """Where the nodes exchange files: on the shared disk, a new folder for each start of the job."""
    return sweep / "ray" / job_env.key


def _log_file(folder: Path, job_env: JobEnvironment) -> Path:
    return folder / f"node-{job_env.node}.log"


def _mark_done(folder: Path) -> None:
    (folder / "done").touch()


def _is_done(folder: Path) -> bool:
    return (folder / "done").exists()


def _host_on_job_network(job_env: JobEnvironment) -> str:
    return last_host(os.environ.get("SLURM_JOB_NODELIST", "localhost")) if job_env.nodes > 1 else "localhost"

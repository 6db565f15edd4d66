"""A Ray of several nodes on this machine, each with its own address and, optionally, its own files."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support.leftovers import processes_with
from support.ports import held_port
from support.processes import LIMIT
from support.waiting import wait_until

#: Detects a lost node within seconds, and shortens shutdown.
FAST_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_worker_niceness": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # a full machine must not fail a test
    "RAY_local_fs_capacity_threshold": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass
class RayNodes:
    """`with RayNodes(folder, environment) as nodes`: a head at 127.X.Y.1; `add` starts nodes from 127.X.Y.2 on.

    X and Y are random: some of Ray's ports are fixed, and other tests may run a Ray at the same time.

    Args:
        folder: A directory with a short path.
        environment: The environment of all processes.
        dashboard: Whether the head has a dashboard, for jobs.
        cpus: Cores of the head.
    """

    folder: Path
    environment: dict[str, str]
    dashboard: bool = False
    cpus: int = 1
    port: int = 0
    dashboard_port: int = 0
    nodes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    net: str = field(default_factory=lambda: f"127.{1 + secrets.randbelow(254)}.{1 + secrets.randbelow(254)}")
    agents: dict[int, int] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> RayNodes:
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.environment |= FAST_HEALTH_CHECKS | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        words = ["--include-dashboard=false"]
        if self.dashboard:
            self.dashboard_port = self._held.enter_context(held_port())
            words = ["--include-dashboard=true", f"--dashboard-port={self.dashboard_port}"]
        words += [f"--num-cpus={self.cpus}", f"--temp-dir={self.folder / 'r'}"]
        self._start(1, "--head", "--port=0", *words)  # Ray chooses a free one and prints it
        address = wait_until(
            lambda: re.search(rf"--address='{self.host(1)}:(\d+)'", self._log(1).read_text()),
            "the address of Ray's head",
        )
        self.port = int(address[1])
        return self

    def __exit__(self, *error: object) -> None:
        for number in sorted(self.nodes, reverse=True):
            self.lose(number)
        self._held.close()

    @property
    def joining(self) -> dict[str, str]:
        """The environment of a driver."""
        return self.environment | {"RAY_ADDRESS": self.address}

    @property
    def address(self) -> str:
        return f"{self.host(1)}:{self.port}"

    def host(self, number: int) -> str:
        """The address of a node."""
        return f"{self.net}.{number}"

    def add(self, number: int, own: Path | None = None, cpus: int = 1, gpus: int = 0) -> None:
        """Start node `number`. It sees an empty directory at `own`."""
        words = [f"--address={self.address}", f"--num-cpus={cpus}", *([f"--num-gpus={gpus}"] if gpus else [])]
        self._start(number, *words, own=own)

    def lose(self, number: int) -> None:
        """Kill all processes of a node."""
        deadline = time.monotonic() + LIMIT
        while left := self.processes(number):
            assert time.monotonic() < deadline, left
            for process in left:
                _kill(process)
            self.nodes[number].poll()
            time.sleep(0.02)
        self.nodes.pop(number).wait()

    def processes(self, number: int) -> dict[int, str]:
        """The command names of a node's processes, by process ID."""
        return processes_with(f"NODE={self.folder}/{number}")

    @staticmethod
    def why_no_mounts() -> str:
        """Why a process cannot have its own mounts here; empty if it can."""
        if shutil.which("unshare") is None:
            return "unshare is not installed"
        done = subprocess.run([*_in_own_mount(Path("/mnt")), "true"], capture_output=True, text=True)
        return "" if done.returncode == 0 else f"unshare --mount fails: {done.stderr.strip()}"

    def seen_by(self, number: int, folder: Path) -> Path:
        """The path from here to `folder` in a node's own file system."""
        raylet = next(process for process, name in self.processes(number).items() if name == "raylet")
        return Path(f"/proc/{raylet}/root{folder}")

    def _start(self, number: int, *words: str, own: Path | None = None) -> None:
        self.agents[number] = self._held.enter_context(held_port())
        ports = ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={self.agents[number]}"]
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, *ports,
            f"--node-ip-address={self.host(number)}", f"--object-store-memory={100 * 2**20}",
        ]  # fmt: skip
        if own is not None:
            own.mkdir(exist_ok=True)
            command = [*_in_own_mount(own), *command]
        deadline, log = time.monotonic() + LIMIT, self._log(number)
        while not self._started(number, command, log):  # Ray gives up on nodes that take more than 30 s to start
            assert time.monotonic() < deadline, log.read_text()
            for process in self.processes(number):
                _kill(process)

    def _log(self, number: int) -> Path:
        return self.folder / f"node-{number}.log"

    def _started(self, number: int, command: list[str], log: Path) -> bool:
        with open(log, "wb") as file:
            environment = self.environment | {"NODE": f"{self.folder}/{number}"}
            self.nodes[number] = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while b"Ray runtime started" not in log.read_bytes():
            if self.nodes[number].poll() is not None:
                return False
            time.sleep(0.1)
        return True


def _in_own_mount(folder: Path) -> list[str]:
    """A command prefix that mounts an empty file system at `folder`."""
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder)]


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return

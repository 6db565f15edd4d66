"""JobEnvironment: which task of a job this process is; its ports; and torchrun's variables for plain DDP."""

from __future__ import annotations

import os
import re
import socket
from typing import NamedTuple

#: Ports of jobs: below those that the system hands out itself (32768 and up), above those of services.
FIRST_PORT, PORTS_PER_JOB, PORT_BLOCKS = 10240, 256, 88

#: Ports of a block that are checked: those that Ray opens at once.
PROBED_PORTS = 8


class JobEnvironment(NamedTuple):
    """One task of a job.

    Attributes:
        job: the job's ID; ARRAY_TASK in an array.
        number: a number of this job alone, the same in all its tasks.
        restart: how often SLURM started the job before.
        rank: index of this task among `tasks`.
        tasks: number of tasks of the job.
        local_rank: index of this task on its node.
        node: index of this node among `nodes`.
        nodes: number of nodes of the job.
        head: name of the first node.
    """

    job: str
    number: int
    restart: int = 0
    rank: int = 0
    tasks: int = 1
    local_rank: int = 0
    node: int = 0
    nodes: int = 1
    head: str = "localhost"

    @property
    def key(self) -> str:
        """Identifies this start of the job."""
        return f"{self.job}-{self.restart}"


def read_job_environment() -> JobEnvironment:
    """The task that this process is, from SLURM's variables or those of submitit's local executor."""
    get = os.environ.get
    if get("SUBMITIT_EXECUTOR") == "local":
        job, local_rank = get("SUBMITIT_LOCAL_JOB_ID", "0"), int(get("SUBMITIT_LOCAL_LOCALID", "0"))
        return JobEnvironment(job, int(job), 0, local_rank, int(get("SUBMITIT_LOCAL_NTASKS", "1")), local_rank)
    job_id, array = get("SLURM_JOB_ID", "0"), get("SLURM_ARRAY_JOB_ID")
    return JobEnvironment(
        job=f"{array}_{get('SLURM_ARRAY_TASK_ID')}" if array else job_id,
        number=int(job_id),  # each task of an array has its own
        restart=int(get("SLURM_RESTART_COUNT", "0")),
        rank=int(get("SLURM_PROCID", "0")),
        tasks=int(get("SLURM_NTASKS", "1")),
        local_rank=int(get("SLURM_LOCALID", "0")),
        node=int(get("SLURM_NODEID", "0")),
        nodes=int(get("SLURM_JOB_NUM_NODES", "1")),
        head=first_host(get("SLURM_JOB_NODELIST", "localhost")),
    )


def rank_variables(job_env: JobEnvironment, tasks_per_node: int) -> dict[str, str]:
    """torchrun's variables for one task; none for a run of one process."""
    if job_env.tasks == 1:
        return {}
    # Not checked for being free: all tasks must compute the same port, and a restart another one.
    port = FIRST_PORT + (job_env.number * 31 + job_env.restart) % (PORTS_PER_JOB * PORT_BLOCKS)
    return {
        "RANK": str(job_env.rank),
        "WORLD_SIZE": str(job_env.tasks),
        "LOCAL_RANK": str(job_env.local_rank),
        "LOCAL_WORLD_SIZE": str(tasks_per_node),
        "MASTER_ADDR": job_env.head,
        "MASTER_PORT": str(port),
    }


def free_port_block(number: int) -> range:
    """The ports of job `number` on this node.

    Raises:
        RuntimeError: no block is free.
    """
    for step in range(PORT_BLOCKS):
        first = FIRST_PORT + (number + step) % PORT_BLOCKS * PORTS_PER_JOB
        if all(_is_free(port) for port in range(first, first + PROBED_PORTS)):
            return range(first, first + PORTS_PER_JOB)
    last = FIRST_PORT + PORT_BLOCKS * PORTS_PER_JOB - 1
    raise RuntimeError(f"no free ports from {FIRST_PORT} to {last} on this node")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def first_host(nodes: str) -> str:
    """The first host in SLURM's node list: gpu003 in "gpu[003-5,9],cpu1"."""
    found = re.match(r"([^\[,]+)(?:\[(\d+))?([^,\[\]]*)", nodes)
    assert found is not None, nodes
    return found[1] + (found[2] or "")


def last_host(nodes: str) -> str:
    """The last host in SLURM's node list: cpu1 in "gpu[003-5,9],cpu1"."""
    last = re.findall(r"[^\[,]+(?:\[[^\]]*\])?[^,]*", nodes)[-1]
    prefix, _, ranges = last.partition("[")
    return str(prefix) + str(re.split(r"[,-]", ranges.rstrip("]"))[-1] if ranges else "")


def own_address(host: str) -> str:
    """This machine's IPv4 address on the network of `host`; loopback if `host` is this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        address: str = probe.getsockname()[0]
    return address

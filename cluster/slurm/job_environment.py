"""The task of a job that this process is, its ports, and torchrun's variables for plain DDP."""

from __future__ import annotations

import os
import re
import socket
from typing import NamedTuple


class JobEnvironment(NamedTuple):
    """One task of a job.

    Attributes:
        job: the job's name; of an array's task ARRAY_TASK.
        number: of this job alone, the same in all its tasks.
        restart: how often SLURM started the job before.
        rank: this task among `tasks`.
        tasks: of the whole job.
        local_rank: this task among those of its node.
        node: this node among `nodes`.
        nodes: how many.
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
        """The name of this start of the job."""
        return f"{self.job}-{self.restart}"


def read_job_environment() -> JobEnvironment:
    """This process's place, from SLURM's variables or submitit's local ones."""
    read = os.environ.get
    if read("SUBMITIT_EXECUTOR") == "local":
        job, local = read("SUBMITIT_LOCAL_JOB_ID", "0"), int(read("SUBMITIT_LOCAL_LOCALID", "0"))
        return JobEnvironment(job, int(job), 0, local, int(read("SUBMITIT_LOCAL_NTASKS", "1")), local)
    own, array = read("SLURM_JOB_ID", "0"), read("SLURM_ARRAY_JOB_ID")
    return JobEnvironment(
        job=f"{array}_{read('SLURM_ARRAY_TASK_ID')}" if array else own,
        number=int(own),  # an array's tasks have one each
        restart=int(read("SLURM_RESTART_COUNT", "0")),
        rank=int(read("SLURM_PROCID", "0")),
        tasks=int(read("SLURM_NTASKS", "1")),
        local_rank=int(read("SLURM_LOCALID", "0")),
        node=int(read("SLURM_NODEID", "0")),
        nodes=int(read("SLURM_JOB_NUM_NODES", "1")),
        head=first_host(read("SLURM_JOB_NODELIST", "localhost")),
    )


def first_host(nodes: str) -> str:
    """The first name of SLURM's short form: "gpu[003-5,9],cpu1" begins with gpu003."""
    found = re.match(r"([^\[,]+)(?:\[(\d+))?([^,\[\]]*)", nodes)
    assert found is not None, nodes
    return found[1] + (found[2] or "")


def last_host(nodes: str) -> str:
    """The last name of it: there cpu1."""
    last = re.findall(r"[^\[,]+(?:\[[^\]]*\])?[^,]*", nodes)[-1]
    prefix, _, ranges = last.partition("[")
    return str(prefix) + str(re.split(r"[,-]", ranges.rstrip("]"))[-1] if ranges else "")


def own_address(other: str) -> str:
    """This machine's IPv4 address on the network on which `other`, a host, is; loopback if that is this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))  # sends nothing
        address: str = probe.getsockname()[0]
    return address


#: Below the ports that the system hands out itself (32768 and up), above those of services.
FIRST_PORT, PORTS_PER_JOB, PORT_BLOCKS = 10240, 256, 88
#: How many of a block are looked at: those that Ray opens at once.
PROBED_PORTS = 8


def free_port_block(number: int) -> range:
    """The ports of job `number` on this node.

    Raises:
        RuntimeError: not one block is free.
    """
    for step in range(PORT_BLOCKS):
        first = FIRST_PORT + (number + step) % PORT_BLOCKS * PORTS_PER_JOB
        if all(_is_free(port) for port in range(first, first + PROBED_PORTS)):
            return range(first, first + PORTS_PER_JOB)
    raise RuntimeError(
        f"no free ports from {FIRST_PORT} to {FIRST_PORT + PORT_BLOCKS * PORTS_PER_JOB - 1} on this node"
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def rank_variables(place: JobEnvironment, tasks_per_node: int) -> dict[str, str]:
    """For one task; nothing for a run of a single process."""
    if place.tasks == 1:
        return {}
    # Not looked at for being free: every task has to come to the same one, and a restart to another.
    port = FIRST_PORT + (place.number * 31 + place.restart) % (PORTS_PER_JOB * PORT_BLOCKS)
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.tasks),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(tasks_per_node),
        "MASTER_ADDR": place.head,
        "MASTER_PORT": str(port),
    }

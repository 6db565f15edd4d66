"""Plain DDP over the tasks of a job: the variables that torchrun would have set."""

from __future__ import annotations

from cluster.slurm.place import Place
from cluster.slurm.ports import BLOCK, BLOCKS, FIRST


def rank_variables(place: Place, tasks_per_node: int) -> dict[str, str]:
    """For one task; nothing for a run of a single process."""
    if place.tasks == 1:
        return {}
    # Not looked at for being free: every task has to come to the same one, and a restart to another.
    port = FIRST + (place.number * 31 + place.restart) % (BLOCK * BLOCKS)
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.tasks),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(tasks_per_node),
        "MASTER_ADDR": place.head,
        "MASTER_PORT": str(port),
    }

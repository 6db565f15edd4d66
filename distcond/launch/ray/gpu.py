"""Workers with a GPU each: which GPU Ray assigned to whom, and an error where torch does not see it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from distcond.runs.failures import WorkerError


class AssignedGpu(NamedTuple):
    """A worker's GPU: Ray's number for it, the ones its node shows to workers, and whether torch sees any."""

    node: str
    gpus: str
    visible: str
    seen: bool


def read_assigned_gpu() -> AssignedGpu:
    """What this worker has. Runs in the worker."""
    import ray
    from ray.util import get_node_ip_address

    node = get_node_ip_address()  # type: ignore[no-untyped-call]
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    return AssignedGpu(node, gpus, os.environ.get("CUDA_VISIBLE_DEVICES", ""), torch.cuda.is_available())


class GpuCheckingBackend(_TorchBackend):
    """torch's process group, but not before every worker sees a GPU: NCCL's own words would say less."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Set the group up.

        Raises:
            WorkerError: of the kind "config", where torch sees no GPU.
        """
        found: list[AssignedGpu] = worker_group.execute(read_assigned_gpu)
        blind = [
            f"worker {rank} (node {w.node}, GPU {w.gpus} of {w.visible})" for rank, w in enumerate(found) if not w.seen
        ]
        if blind:
            where = (
                f"launch.device={backend_config.wanted}: Ray counts GPUs that torch does not see: {', '.join(blind)}"
            )
            raise WorkerError("config", f"{where}; valid: launch.device=cpu, or a torch and a driver for them", 0)
        super().on_start(worker_group, backend_config)


@dataclass
class GpuConfig(TorchConfig):
    """NCCL for tensors on GPUs, gloo for those on CPUs; `wanted` is launch.device."""

    wanted: str = "auto"

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What sets the group up."""
        return GpuCheckingBackend

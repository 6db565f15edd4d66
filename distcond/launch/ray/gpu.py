"""The torch backend of workers with a GPU each: checks that torch sees the GPU that Ray assigned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from ray.train.torch.config import _TorchBackend

from distcond.launch.ray.process_group import PrivateStoreBackend, PrivateStoreConfig
from distcond.runs.failures import WorkerError


class AssignedGpu(NamedTuple):
    """The GPU of a worker.

    Attributes:
        node: IP address of the worker's node.
        ids: what Ray assigned.
        visible: CUDA_VISIBLE_DEVICES.
        available: whether torch sees any GPU.
    """

    node: str
    ids: str
    visible: str
    available: bool


def read_assigned_gpu() -> AssignedGpu:
    """The GPU of this worker. Runs in the worker."""
    import ray
    from ray.util import get_node_ip_address

    node = get_node_ip_address()
    ids = ",".join(map(str, ray.get_gpu_ids()))
    return AssignedGpu(node, ids, os.environ.get("CUDA_VISIBLE_DEVICES", ""), torch.cuda.is_available())


class GpuCheckingBackend(PrivateStoreBackend):
    """Sets up torch's process group once every worker sees a GPU: NCCL's own error would be less helpful."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Check the GPUs and set up the process group.

        Raises:
            WorkerError: of kind "config", if torch sees no GPU on a worker.
        """
        assigned: list[AssignedGpu] = worker_group.execute(read_assigned_gpu)
        without = [
            f"worker {rank} (node {gpu.node}, GPU {gpu.ids} of {gpu.visible})"
            for rank, gpu in enumerate(assigned)
            if not gpu.available
        ]
        if without:
            problem = (
                f"launch.device={backend_config.device}: Ray counts GPUs that torch does not see: {', '.join(without)}"
            )
            raise WorkerError("config", f"{problem}; valid: launch.device=cpu, or a torch and a driver for them", 0)
        super().on_start(worker_group, backend_config)


@dataclass
class GpuConfig(PrivateStoreConfig):
    """NCCL for tensors on GPUs, gloo for those on CPUs; `device` is launch.device, for messages."""

    device: str = "auto"

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """The backend that Ray Train instantiates."""
        return GpuCheckingBackend

"""Workers with a GPU each, on GPUs that a node only claims to have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.ray, pytest.mark.cluster]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real CUDA device: it would be used")
def test_gpus_that_torch_does_not_see_are_refused(place: Any, ray_nodes: Any) -> None:
    ray_nodes.add(2, cpus=4, gpus=2)
    run = place.start("launch=ray", "batch_size=3", **ray_nodes.joining)  # as many workers as GPUs, not as cores
    assert run.end() == 2, run.output
    node = ray_nodes.host(2)
    workers = f"worker 0 (node {node}, GPU 0 of 0,1), worker 1 (node {node}, GPU 1 of 0,1)"
    assert run.output.splitlines()[-1] == (
        f"error: launch.device=auto: Ray counts GPUs that torch does not see: {workers}; "
        "valid: launch.device=cpu, or a torch and a driver for them"
    )

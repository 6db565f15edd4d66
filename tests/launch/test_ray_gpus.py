"""GPUs that a Ray node claims to have and torch does not see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real CUDA device: it would be used")
def test_gpus_that_torch_does_not_see_are_refused(place: Any, ray_nodes: Any) -> None:
    ray_nodes.add(2, cpus=4, gpus=2)
    run = place.start("launch=ray", "batch_size=12", **ray_nodes.joining)  # as many workers as GPUs, not as cores
    assert run.end() == 2, run.output
    last = run.output.splitlines()[-1]
    assert last.startswith("error: launch.device=auto: ") and "valid: launch.device=cpu" in last
    for number in (0, 1):
        assert f"worker {number} (node {ray_nodes.host(2)}, GPU {number} of 0,1)" in last

"""A fixed number of workers on a local Ray cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.ray


def test_local_cluster_has_no_autoscaler(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.train.v2.api.config import ScalingConfig

    from distcond.launch.ray.trainer import FixedPolicyWithoutAutoscaler

    client = "ray.train.v2._internal.execution.scaling_policy.scaling_policy.TrainAutoscalingCoordinatorClient"
    monkeypatch.setattr(client, lambda name: pytest.fail(f"an autoscaler was contacted for {name}"))
    policy = FixedPolicyWithoutAutoscaler(ScalingConfig(num_workers=2, resources_per_worker={"CPU": 3.0}))
    policy.after_controller_start(SimpleNamespace(run_id="1"))
    decision: Any = policy.make_decision_for_non_running_worker_group()
    assert (decision.num_workers, decision.resources_per_worker) == (2, {"CPU": 3.0})
    policy.before_controller_abort()
    assert not ray.is_initialized()

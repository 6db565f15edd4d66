"""Ray Train's fixed number of workers, on a Ray that nothing can make larger."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy


class Alone(FixedScalingPolicy):
    """Asks no autoscaler for resources: that would be a process more, which the workers' start waits for."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing is registered, so that there is nothing to cancel either."""

    def _maybe_send_resource_request(self) -> None:
        """Nobody would hear it."""

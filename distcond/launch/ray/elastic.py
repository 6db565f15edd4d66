"""Ray Train's elastic scaling with a timeout: Ray itself waits for free resources without limit.

A module of its own because it needs a newer Ray than runs of a fixed size do.
"""

from __future__ import annotations

import time

from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ScalingDecision
from ray.train.v2.api.config import ScalingConfig

#: Seconds between two checks for free resources; Ray's own loop does not pause.
PAUSE = 0.5


class ElasticPolicyWithTimeout(ElasticScalingPolicy):
    """Starts as many workers as fit, and raises after `timeout` seconds without resources for the least number."""

    def __init__(self, scaling_config: ScalingConfig, timeout: float) -> None:
        super().__init__(scaling_config)
        self.timeout = timeout
        self._waiting_since: float | None = None

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Ray's decision.

        Raises:
            TimeoutError: the least number of workers did not fit in time.
        """
        decision = super().make_decision_for_non_running_worker_group()
        if not isinstance(decision, NoopDecision):
            self._waiting_since = None
            return decision
        self._waiting_since = self._waiting_since or time.monotonic()
        if time.monotonic() - self._waiting_since > self.timeout:
            least = self.scaling_config.min_workers
            raise TimeoutError(f"no resources for launch.min_workers={least} within launch.timeout={self.timeout:g} s")
        time.sleep(PAUSE)
        return decision

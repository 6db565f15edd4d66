"""Ray Train's elastic scaling with a timeout: Ray itself would wait for free resources without limit.

Apart from `trainer`, because it needs a newer Ray than runs of a fixed size do.
"""

from __future__ import annotations

import time

from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ScalingDecision
from ray.train.v2.api.config import ScalingConfig

#: Seconds between two looks at whether there is room; Ray's own loop does not pause.
PAUSE = 0.5


class ElasticPolicyWithTimeout(ElasticScalingPolicy):
    """Starts as many workers as there is room for, and gives up where that was too few for `timeout` seconds."""

    def __init__(self, scaling_config: ScalingConfig, timeout: float) -> None:
        super().__init__(scaling_config)
        self.timeout = timeout
        self._waiting: float | None = None

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Ray's decision.

        Raises:
            TimeoutError: the least number of workers found no room in time.
        """
        decision = super().make_decision_for_non_running_worker_group()
        if not isinstance(decision, NoopDecision):
            self._waiting = None
            return decision
        self._waiting = self._waiting or time.monotonic()
        if time.monotonic() - self._waiting > self.timeout:
            least = self.scaling_config.min_workers
            raise TimeoutError(f"no room for launch.min_workers={least} within launch.timeout={self.timeout:g} s")
        time.sleep(PAUSE)
        return decision

"""Times the parts of training steps: about one step per second is timed, the others run unchanged.

A GPU runs asynchronously, so timing a part needs synchronisation at both its ends. Only timed steps synchronise; they
lose the overlap of host and device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

#: Parts in display order. "rest" is everything else: optimiser, masks, random numbers, checkpoints.
PARTS = ("data", "attack", "passes", "reduction", "rest")

#: Seconds between two timed steps.
INTERVAL = 1.0


class Stopwatch:
    """Times parts of a step. Within a timed step, time counts for the innermost open part, or for "rest".

    Args:
        device: the device to synchronise.
        active: False = time nothing.
        interval: seconds between two timed steps.
    """

    def __init__(self, device: torch.device, active: bool = True, interval: float = INTERVAL) -> None:
        self.device, self.active, self.interval = device, active, interval
        self.seconds = dict.fromkeys(PARTS, 0.0)  # over the timed steps since `reset`
        self._part = ""  # the open part; empty outside timed steps
        self._since = self._last = -math.inf

    @property
    def running(self) -> bool:
        """Whether this step is timed."""
        return bool(self._part)

    def reset(self) -> None:
        """Set all times to zero."""
        self.seconds, self._part = dict.fromkeys(PARTS, 0.0), ""

    def begin(self) -> None:
        """Start a step, before its batch is read; it is timed if the last timed step is at least `interval` ago."""
        if self.active and time.perf_counter() - self._last >= self.interval:
            self._part, self._since = "rest", self._now()
            self._last = self._since

    def end(self) -> None:
        """End the step."""
        if self.running:
            self._switch_to("")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block for `name`."""
        if not self.running:
            yield
            return
        outer = self._part
        self._switch_to(name)
        yield
        self._switch_to(outer)

    @contextmanager
    def backward(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Count a backward pass: "passes" up to the last gradient of `parameters`, then "reduction" between ranks."""
        if not self.running:
            yield
            return
        last_gradient = _Timestamp(self.device)
        handles = [p.register_post_accumulate_grad_hook(last_gradient.set) for p in parameters if p.requires_grad]
        try:
            with self.part("passes"):
                yield
        finally:
            for handle in handles:
                handle.remove()
        exposed = min(last_gradient.seconds_until(self._since), self.seconds["passes"])
        self.seconds["passes"] -= exposed
        self.seconds["reduction"] += exposed

    def shares(self) -> dict[str, float] | None:
        """Each part's share of the timed steps, adding up to 1; None before the first timed step."""
        total = sum(self.seconds.values())
        return {name: spent / total for name, spent in self.seconds.items()} if total > 0 else None

    def _switch_to(self, part: str) -> None:
        now = self._now()
        self.seconds[self._part] += now - self._since
        self._part, self._since = part, now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class _Timestamp:
    """The time of the last `set`; on a GPU, when the GPU reached it."""

    def __init__(self, device: torch.device) -> None:
        self.event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        self.time = math.inf

    def set(self, parameter: torch.Tensor) -> None:
        self.time = time.perf_counter()
        if self.event is not None:
            self.event.record()

    def seconds_until(self, end: float) -> float:
        """Seconds from the last `set` to `end`, when the device was synchronised; 0 if it was never set."""
        if self.time == math.inf:
            return 0.0
        if self.event is None:
            return max(0.0, end - self.time)
        now = torch.cuda.Event(enable_timing=True)
        now.record()
        now.synchronize()
        # The device has been idle since `end`.
        return max(0.0, self.event.elapsed_time(now) / 1000 - (time.perf_counter() - end))


#: A stopwatch that times nothing.
NULL_TIMER = Stopwatch(torch.device("cpu"), active=False)

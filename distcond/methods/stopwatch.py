"""Where the time of a training step goes: one step in a while is timed part by part, the others run untouched.

A device works behind the host's back, so a part's time is known only if the device is waited for at both its ends.
That is done in the timed steps alone, about one a second; they lose whatever would have overlapped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

#: Parts in the order in which they are shown. "rest" is what no part covers: the optimiser, masks, drawing, saving.
PARTS = ("data", "attack", "passes", "reduction", "rest")

#: Seconds between two timed steps.
INTERVAL = 1.0


class Stopwatch:
    """Times the parts of some steps: within one, every moment counts as the innermost part that is open, or "rest".

    Args:
        device: what is waited for.
        active: False = time nothing.
        interval: seconds between two timed steps.
    """

    def __init__(self, device: torch.device, active: bool = True, interval: float = INTERVAL) -> None:
        self.device, self.active, self.interval = device, active, interval
        self.seconds = dict.fromkeys(PARTS, 0.0)  # over the timed steps since `reset`
        self._part = ""  # the open one; empty outside of timed steps
        self._since = self._last = -math.inf

    @property
    def running(self) -> bool:
        """Whether this step is timed."""
        return bool(self._part)

    def reset(self) -> None:
        """Forget what was timed."""
        self.seconds, self._part = dict.fromkeys(PARTS, 0.0), ""

    def begin(self) -> None:
        """A step begins, before its images are waited for: time it if the last timed one is long enough ago."""
        if self.active and time.perf_counter() - self._last >= self.interval:
            self._part, self._since = "rest", self._now()
            self._last = self._since

    def end(self) -> None:
        """The step is over."""
        if self.running:
            self._turn_to("")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs in the block counts as `name`."""
        if not self.running:
            yield
            return
        outer = self._part
        self._turn_to(name)
        yield
        self._turn_to(outer)

    @contextmanager
    def backward(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """As "passes" up to the last gradient of `parameters`; what then is waited for is "reduction" between ranks."""
        if not self.running:
            yield
            return
        ready = _Mark(self.device)
        handles = [p.register_post_accumulate_grad_hook(ready.set) for p in parameters if p.requires_grad]
        try:
            with self.part("passes"):
                yield
        finally:
            for handle in handles:
                handle.remove()
        exposed = min(ready.seconds_until(self._since), self.seconds["passes"])
        self.seconds["passes"] -= exposed
        self.seconds["reduction"] += exposed

    def shares(self) -> dict[str, float] | None:
        """Each part's share of the timed steps, adding up to 1; None before the first."""
        total = sum(self.seconds.values())
        return {name: spent / total for name, spent in self.seconds.items()} if total > 0 else None

    def _turn_to(self, part: str) -> None:
        now = self._now()
        self.seconds[self._part] += now - self._since
        self._part, self._since = part, now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class _Mark:
    """The last moment at which it was set: on a GPU, as the GPU sees it."""

    def __init__(self, device: torch.device) -> None:
        self.event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        self.time = math.inf

    def set(self, parameter: torch.Tensor) -> None:
        self.time = time.perf_counter()
        if self.event is not None:
            self.event.record()

    def seconds_until(self, end: float) -> float:
        """From there to `end`, at which the device was waited for; 0 if it was not set."""
        if self.time == math.inf:
            return 0.0
        if self.event is None:
            return max(0.0, end - self.time)
        now = torch.cuda.Event(enable_timing=True)
        now.record()
        now.synchronize()
        # The device stood idle since `end`.
        return max(0.0, self.event.elapsed_time(now) / 1000 - (time.perf_counter() - end))


#: Times nothing.
NULL_TIMER = Stopwatch(torch.device("cpu"), active=False)

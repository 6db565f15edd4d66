"""What the stopwatch adds to a training step on the CPU: `python benchmarks/stopwatch_cost.py`.

Prints microseconds of CPU time per step that is not timed, and per step that is: median, least and most of 7 repeats.
"""

from __future__ import annotations

import statistics
import time

import torch

from distcond.methods.stopwatch import Stopwatch

STEPS, REPEATS = 20_000, 7


def step(watch: Stopwatch) -> None:
    """The calls that a training step makes."""
    watch.begin()
    with watch.part("data"):
        pass
    with watch.part("passes"), watch.part("attack"):
        pass
    with watch.backward(()):
        pass
    watch.end()


def microseconds(watch: Stopwatch) -> float:
    """CPU time of one step."""
    began = time.process_time()
    for _ in range(STEPS):
        step(watch)
    return 1e6 * (time.process_time() - began) / STEPS


def main() -> None:
    """Measure both kinds of steps in turn."""
    cpu = torch.device("cpu")
    watches = {"not timed": Stopwatch(cpu, interval=1e9), "timed": Stopwatch(cpu, interval=0.0)}
    found: dict[str, list[float]] = {name: [] for name in watches}
    for _ in range(REPEATS):
        for name, watch in watches.items():
            found[name].append(microseconds(watch))
    for name, times in found.items():
        print(f"{name:<10}{statistics.median(times):6.1f} us  ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    main()

"""The cost of the stopwatch in a training step on the CPU: `python benchmarks/stopwatch_cost.py`.

Prints microseconds of CPU time per step without and with timing: median, minimum and maximum of 7 repeats.
"""

from __future__ import annotations

import statistics
import time

import torch

from distcond.methods.stopwatch import Stopwatch

STEPS, REPEATS = 20_000, 7


def run_step(watch: Stopwatch) -> None:
    """The calls of a training step."""
    watch.begin()
    with watch.part("data"):
        pass
    with watch.part("passes"), watch.part("attack"):
        pass
    with watch.backward(()):
        pass
    watch.end()


def measure(watch: Stopwatch) -> float:
    """CPU time of one step in microseconds."""
    start = time.process_time()
    for _ in range(STEPS):
        run_step(watch)
    return 1e6 * (time.process_time() - start) / STEPS


def main() -> None:
    """Measure both kinds of steps, interleaved."""
    cpu = torch.device("cpu")
    watches = {"not timed": Stopwatch(cpu, interval=1e9), "timed": Stopwatch(cpu, interval=0.0)}
    times: dict[str, list[float]] = {name: [] for name in watches}
    for _ in range(REPEATS):
        for name, watch in watches.items():
            times[name].append(measure(watch))
    for name, values in times.items():
        print(f"{name:<10}{statistics.median(values):6.1f} us  ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()

"""Images/s of a training step beside busy processes, by how threads wait: `python benchmarks/busy_machine.py`.

Each variant is a process of its own: torch's default threads with OpenMP's default waiting (they spin), the same with
OMP_WAIT_POLICY=passive, and one thread. The processes take turns. `--busy 0` measures the machine as it is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

#: Environment of each variant.
VARIANTS = {
    "default threads, spinning": {},
    "default threads, passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"},
}


def main() -> None:
    """Print images per second of every variant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--recipe", default="float_digits")
    arguments.add_argument("--busy", type=int, default=2, help="busy processes beside")
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    arguments.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.worker:
        serve_turns(args.recipe)
        return
    neighbours = [multiprocessing.Process(target=spin, daemon=True) for _ in range(args.busy)]
    for neighbour in neighbours:
        neighbour.start()
    try:
        print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {args.busy} busy processes")
        for name, rates in take_turns(args.recipe, args.turns, args.seconds).items():
            spread = f"{min(rates):.0f}-{max(rates):.0f}"
            print(f"{name:<28} {statistics.median(rates):8.0f} img/s ({spread})")
    finally:
        for neighbour in neighbours:
            neighbour.kill()


def take_turns(recipe: str, turns: int, seconds: float) -> dict[str, list[float]]:
    """Images per second of every variant in every turn."""
    command = [sys.executable, __file__, "--worker", "--recipe", recipe]
    workers = {}
    for name, variables in VARIANTS.items():
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | variables
        workers[name] = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(turns):
        for name, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            print(seconds, file=worker.stdin, flush=True)
            rates[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    return rates


def serve_turns(recipe: str) -> None:
    """For every number of seconds on stdin, train as long and print the images per second."""
    import torch  # before distcond, which would set OMP_WAIT_POLICY

    from distcond.config.overrides import resolve
    from distcond.methods.step_context import StepRandomness
    from distcond.registry import lookup
    from distcond.runs.build import build_model, build_step
    from distcond.seeding import generator

    config = resolve(recipe, {})
    step = build_step(config, build_model(config), torch.device("cpu")).train()
    n = config.batch_size
    x = torch.rand(n, 3, 8, 8, generator=generator("images")).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (n,), generator=generator("labels"))
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, n, generator("lam")).sort().values
    for line in sys.stdin:
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < float(line) or not done:
            step(x, y, StepRandomness(0, 0, done, 0, 1, lam)).loss.backward()
            done += 1
        print(done * n / (time.perf_counter() - start), flush=True)


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


if __name__ == "__main__":
    main()

"""Measures the constants of `scaling.py` on this machine's CPUs, and compares its model with steps of two processes.

Steps of one process and of two are interleaved; every time is a median. Each process has one thread.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scaling import count_work, ring

from distcond.config.overrides import resolve
from distcond.distributed.world import World
from distcond.methods.step_context import StepRandomness
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.seeding import generator
from distcond.training.build_trainer import wrap_ddp

MODEL, METHOD, STEPS, IMAGES, TURNS = "resnet18", "pgd_at", 2, 8, 5
SIZES = (1 << 10, 1 << 20, 44 << 20)


def measure() -> None:
    """Print the constants, the prediction and the step."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (folder,), nprocs=2)  # type: ignore[no-untyped-call]


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    seconds = {size: _time_collective(lambda size=size: dist.all_reduce(torch.zeros(size // 4))) for size in SIZES}
    alone, pair = _build_step(World()), _build_step(World(rank, 2))
    times: dict[str, list[float]] = {"alone": [], "pair": []}
    for number in range(TURNS + 1):
        for name, run in (("alone", alone), ("pair", pair)):
            dist.barrier()
            start = time.perf_counter()
            run(number)
            dist.barrier()
            times[name] += [time.perf_counter() - start] if number else []
    if rank == 0:
        _report(seconds, {name: statistics.median(values) for name, values in times.items()}, times)
    dist.destroy_process_group()


def _report(seconds: dict[int, float], medians: dict[str, float], times: dict[str, list[float]]) -> None:
    load = count_work(MODEL, METHOD, STEPS)
    latency, bandwidth = seconds[SIZES[0]] / 2, SIZES[-1] / seconds[SIZES[-1]]
    print(f"load average {os.getloadavg()[0]:.1f} with {os.cpu_count()} cores, two processes of one thread each")
    for size, time_taken in seconds.items():
        print(f"gloo all-reduce of {size / 2**20:8.3f} MiB: {1e3 * time_taken:8.2f} ms")
    flops = IMAGES * load.forwards * load.flops / medians["alone"]
    speed = f"{1e6 * latency:.0f} us; bandwidth: {bandwidth / 1e9:.2f} GB/s; one thread: {flops / 1e9:.1f} GFLOP/s"
    print(f"one message: {speed}")
    predicted = medians["alone"] + ring(load.gradients, 2, bandwidth, latency)
    spread = ", ".join(f"{name} {1e3 * min(t):.0f}-{1e3 * max(t):.0f}" for name, t in times.items())
    print(
        f"{MODEL}, {METHOD} PGD-{STEPS}, {IMAGES} images each: without reduction {1e3 * medians['alone']:.0f} ms, with "
        f"{1e3 * medians['pair']:.0f} ms; predicted without overlap {1e3 * predicted:.0f} ms (ranges in ms: {spread})"
    )


def _time_collective(collective: Callable[[], Any]) -> float:
    """The median time of a collective in seconds."""
    times = []
    for _ in range(2 * TURNS):
        dist.barrier()
        start = time.perf_counter()
        collective()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _build_step(world: World) -> Callable[[int], None]:
    settings: dict[str, Any] = {"method": METHOD, "model": MODEL, "data": "cifar10", "attack.num_steps": STEPS}
    config = resolve("float_digits", settings | {"precision.train": "float32"})
    step = build_step(config, build_model(config), torch.device("cpu")).train()
    wrapped = wrap_ddp(step, world)
    batch = IMAGES * world.size
    x = torch.rand(batch, 3, 32, 32, generator=generator("x"))[world.rank :: world.size]
    y = torch.randint(10, (batch,), generator=generator("y"))[world.rank :: world.size]
    sampler = lookup("sampler", config.sampler.name)

    def run(number: int) -> None:
        lam = sampler.draw(config.sampler, batch, generator(number)).sort().values
        wrapped(x, y, StepRandomness(0, 0, number, world.rank, world.size, lam)).loss.backward()
        step.zero_grad(set_to_none=True)

    return run

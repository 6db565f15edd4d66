"""The step with and without `precision.compile=attack`, interleaved: `python benchmarks/compiled_attack.py`.

Prints the seconds of the first step, which compiles, and the median and ratio of later ones: process time on a CPU,
wall time on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from distcond.config.overrides import resolve
from distcond.methods.step_context import StepRandomness
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.seeding import generator


def main() -> None:
    """Print first and later steps of both variants."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--method", default="float")
    arguments.add_argument("--model", default="small_cnn")
    arguments.add_argument("--size", type=int, default=8, help="side of the images")
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--turns", type=int, default=9)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    variants = {name: make_step(args, name, device) for name in ("off", "attack")}
    first, later = dict[str, float](), dict[str, list[float]]()
    for turn in range(args.turns + 1):
        for name, step in variants.items():
            start, wall = clock(), time.perf_counter()
            step(turn)
            if turn:
                later.setdefault(name, []).append(clock() - start)
            else:
                first[name] = time.perf_counter() - wall
    for name, seconds in later.items():
        ratio = statistics.median(one / off for one, off in zip(seconds, later["off"], strict=True))
        what = f"{args.method}, {args.model}, batch {args.batch}, {device.type}"
        times = f"first step {first[name]:6.1f} s, later {statistics.median(seconds) * 1e3:7.1f} ms"
        print(f"precision.compile={name:<7} {times}, ratio {ratio:.2f} ({what})")


def make_step(args: argparse.Namespace, compiled: str, device: torch.device) -> Callable[[int], None]:
    """Forward, attack and backward of one batch."""
    config = resolve(
        "float_digits",
        {"method": args.method, "model": args.model, "batch_size": args.batch, "precision.compile": compiled},
    )
    step = build_step(config, build_model(config), device).train()
    x = torch.rand(args.batch, 3, args.size, args.size, generator=generator("images"))
    x = x.to(device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (args.batch,), generator=generator("labels")).to(device)
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, args.batch, generator("lam")).sort().values

    def run(number: int) -> None:
        step(x, y, StepRandomness(0, 0, number, 0, 1, lam)).loss.backward()
        step.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    main()

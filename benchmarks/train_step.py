"""Times a training step of several variants, interleaved, and prints ratios: `python benchmarks/train_step.py`.

Compare ratios within one run: machines are noisy, so variants are interleaved and each time is a median over the turns.
On a CPU with `--threads 1` the times are those of the process, which other processes disturb less.
`floor` is the bare passes (k input gradients in eval mode and one training pass) of the plain network in the same
number format: the cost without conditioning, attack bookkeeping and optimiser.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.methods.step_context import StepRandomness, eval_mode
from distcond.registry import lookup
from distcond.runs.build import autocast_dtype, build_model, build_step
from distcond.seeding import generator
from distcond.training.optimiser import make_optimiser

Step = Callable[[int], None]


def main() -> None:
    """Print seconds per step, images per second and the ratio to the first variant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="resnet20")
    arguments.add_argument("--methods", default="pgd_at,float")
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--turns", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = build_variants(args.model, args.methods.split(","), args.batch, device)
    times = time_steps(steps, args.turns, device)
    print(f"{args.model}, batch {args.batch}, PGD-7, {device.type}, {args.threads} threads, median of {args.turns}")
    first = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        spread = f"{min(seconds) * 1e3:.0f}-{max(seconds) * 1e3:.0f}"
        rate = args.batch / median
        print(f"{name:<28} {median * 1e3:8.1f} ms ({spread})  {rate:8.0f} img/s  {median / first:5.2f}x")


def build_variants(model: str, methods: list[str], batch: int, device: torch.device) -> dict[str, Step]:
    """Steps by name: the floor, then each method with and without a folded attack, in the device's number format."""
    base = {"model": model, "data": "cifar10", "batch_size": batch, "attack.num_steps": 7, "eval.lam_grid": "0,1"}
    x = torch.rand(batch, 3, 32, 32, generator=generator("images"))
    x = x.to(device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), generator=generator("labels")).to(device)
    steps: dict[str, Step] = {
        "floor": floor_step(resolve("float_digits", base | {"method": "pgd_at", "precision.train": "auto"}), x, y)
    }
    for method in methods:
        for folded, precision in ((True, "auto"), (False, "auto"), (True, "float32")):
            name = f"{method} {'folded' if folded else 'as written'} {precision}"
            extra = {"method": method, "precision.fold_attack": folded, "precision.train": precision}
            steps[name] = full_step(resolve("float_digits", base | extra), x, y)
    return steps


def full_step(config: Config, x: torch.Tensor, y: torch.Tensor) -> Step:
    """A complete training step, optimiser included."""
    model = build_model(config)
    step = build_step(config, model, x.device).train()
    optimiser = make_optimiser(model, config.optim)
    sampler = lookup("sampler", config.sampler.name)

    def run(number: int) -> None:
        lam = sampler.draw(config.sampler, len(x), generator(number)).sort().values
        outcome = step(x, y, StepRandomness(0, 0, number, 0, 1, lam))
        optimiser.zero_grad(set_to_none=True)
        outcome.loss.backward()
        optimiser.step()

    return run


def floor_step(config: Config, x: torch.Tensor, y: torch.Tensor) -> Step:
    """k input gradients in eval mode and one training pass, bare."""
    model = build_model(config)
    build_step(config, model, x.device)
    dtype = autocast_dtype(config.precision, x.device)
    cond = model.condition(1.0)

    def run(number: int) -> None:
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            with eval_mode(model):
                for _ in range(config.attack.num_steps):
                    at = x.clone().requires_grad_()
                    torch.autograd.grad(F.cross_entropy(model(at, cond).float(), y, reduction="sum"), at)
            F.cross_entropy(model(x, cond).float(), y).backward()
        model.zero_grad(set_to_none=True)

    return run


def time_steps(steps: dict[str, Step], turns: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds per step of every variant: one step of each per turn, after two warm-up turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    own_time = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if own_time else time.perf_counter
    for turn in range(turns + 2):
        for name, step in steps.items():
            start = clock()
            step(turn)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:
                times[name].append(clock() - start)
    return times


if __name__ == "__main__":
    main()

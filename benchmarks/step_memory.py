"""Peak memory of a training step by method, batch and setting: `python benchmarks/step_memory.py`.

Each variant is a process of its own, which takes two steps. On a CPU the number is the growth of the largest resident
set over that before the first step, on a GPU the peak of torch's allocator: weights, gradients and activations.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

VARIANTS = {
    "as is": {},
    "precision.recompute=true": {"precision.recompute": True},
    "optim.accumulate=4": {"optim.accumulate": 4},
    "both": {"precision.recompute": True, "optim.accumulate": 4},
}


def main() -> None:
    """Print MiB of every variant."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="resnet18")
    arguments.add_argument("--methods", default="pgd_at,float,oat")
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--variant", default="", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.variant:
        print(peak(args.methods, args.model, args.batch, VARIANTS[args.variant]))
        return
    for method in args.methods.split(","):
        for name in VARIANTS:
            command = [sys.executable, __file__, "--model", args.model, "--methods", method, "--batch", str(args.batch)]
            done = subprocess.run([*command, "--variant", name], check=True, capture_output=True, text=True)
            print(f"{method:<8} {args.model}, batch {args.batch}, {name:<26} {float(done.stdout):8.0f} MiB", flush=True)


def peak(method: str, model: str, batch: int, settings: dict[str, object]) -> float:
    """MiB that two steps of PGD-2 need."""
    import torch

    from distcond.config.overrides import resolve
    from distcond.methods.step_context import StepRandomness
    from distcond.registry import lookup
    from distcond.runs.build import build_model, build_step
    from distcond.seeding import generator
    from distcond.training.accumulation import Shares, share_randomness

    base = {"model": model, "data": "cifar10", "batch_size": batch, "attack.num_steps": 2, "eval.lam_grid": "0,1"}
    config = resolve("float_digits", {"method": method, **base, **settings})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_model(config)
    step = build_step(config, network, device).train()
    x = torch.rand(batch, 3, 32, 32, generator=generator("images"))
    x = x.to(device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), generator=generator("labels")).to(device)
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, batch, generator("lam")).sort().values
    shares, before = Shares(network, config.optim.accumulate), resident()
    for number in range(2):
        for part in range(shares.count):
            own = share_randomness(StepRandomness(0, 0, number, 0, 1, lam), part, shares.count)
            with shares.share(part):
                (step(x[part :: shares.count], y[part :: shares.count], own).loss / shares.count).backward()
        network.zero_grad()
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else resident() - before


def resident() -> float:
    """The largest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

"""The cost of a forward pass of a blend relative to the plain network of the same shape, interleaved.

    python benchmarks/dial_latency.py --model resnet18 --batch 64 --turns 15

Networks are untrained, since the cost does not depend on the weights. Plain is PGD-AT's network in eval mode; folded is
the same with normalisation folded into the weights, as distcond represents every operating point. The blends are
FLOAT's at t 0.5.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distcond.config.overrides import resolve
from distcond.models.conditional import AtLambda
from distcond.models.dial import AtDial
from distcond.runs.build import build_model

Forward = Callable[[Tensor], Tensor]


def main() -> None:
    """Time all networks, interleaved, and print the ratios to the plain one."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="resnet18")
    arguments.add_argument("--batch", type=int, default=64, help="images in a pass")
    arguments.add_argument("--turns", type=int, default=15, help="passes of each, interleaved")
    arguments.add_argument("--threads", type=int, default=1)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    x = torch.rand(args.batch, 3, 32, 32)
    forwards = build_networks(args.model)
    with torch.no_grad():
        seconds = time_forwards(forwards, x, args.turns)
    plain = statistics.median(seconds["plain"])
    print(f"{args.model}, batch {args.batch}, {args.threads} thread(s), median of {args.turns} interleaved passes")
    for name, times in seconds.items():
        print(f"{name:16} {1e3 * statistics.median(times):8.2f} ms  ratio {statistics.median(times) / plain:.3f}")


def build_networks(model: str) -> dict[str, Forward]:
    """The networks by name, in eval mode."""
    plain, dual = (
        build_model(resolve("float_cifar10_resnet20", {"method": method, "model": model})).eval()
        for method in ("pgd_at", "float")
    )
    cond = plain.condition(1.0)
    return {
        "plain": lambda x: plain(x, cond),
        "plain, folded": AtLambda(plain, 1.0),
        "switch": AtLambda(dual, 1.0),
        "weights t 0.5": _frozen(AtDial(dual, 0.5, "weights")),
        "outputs t 0.5": _frozen(AtDial(dual, 0.5, "outputs")),
    }


def _frozen(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False)


def time_forwards(forwards: dict[str, Forward], x: Tensor, turns: int) -> dict[str, list[float]]:
    """Seconds of every pass, after one warm-up pass of each network."""
    seconds: dict[str, list[float]] = {name: [] for name in forwards}
    for turn in range(turns + 1):
        for name, forward in forwards.items():
            start = time.perf_counter()
            forward(x)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()

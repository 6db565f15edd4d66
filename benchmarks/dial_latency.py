"""What a forward pass of a blend costs beside the plain network of the same shape, as interleaved ratios.

    python benchmarks/dial_latency.py --model resnet18 --batch 64 --turns 15

Networks are untrained: a pass does not depend on the values. Plain is PGD-AT's network in eval mode, convolutions and
normalisation one after the other; folded is the same with its normalisation folded into the weights, as distcond holds
every operating point. The blends are FLOAT's at t 0.5.
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
    """Time all of them in turn and print the ratios to the plain network."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="resnet18")
    arguments.add_argument("--batch", type=int, default=64, help="images in a pass")
    arguments.add_argument("--turns", type=int, default=15, help="passes of each, interleaved")
    arguments.add_argument("--threads", type=int, default=1)
    found = arguments.parse_args()
    torch.set_num_threads(found.threads)
    x = torch.rand(found.batch, 3, 32, 32)
    forwards = networks(found.model)
    with torch.no_grad():
        seconds = timed(forwards, x, found.turns)
    plain = statistics.median(seconds["plain"])
    print(f"{found.model}, batch {found.batch}, {found.threads} thread(s), median of {found.turns} interleaved passes")
    for name, times in seconds.items():
        print(f"{name:16} {1e3 * statistics.median(times):8.2f} ms  ratio {statistics.median(times) / plain:.3f}")


def networks(model: str) -> dict[str, Forward]:
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


def timed(forwards: dict[str, Forward], x: Tensor, turns: int) -> dict[str, list[float]]:
    """Seconds of every pass; one pass of each first, which is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in forwards}
    for turn in range(turns + 1):
        for name, forward in forwards.items():
            began = time.perf_counter()
            forward(x)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()

"""A model of the step time on many GPUs: forward-equivalents, gradient bytes, ring and tree all-reduce, overlap.

    python benchmarks/scaling.py                                      # the tables of docs/reports/scaling.md
    python benchmarks/scaling.py --flops 60e12 --within 200e9 --between 25e9 --per-node 4
    python benchmarks/scaling.py --measure                            # this machine's own constants, two processes

Use your own constants: the FLOP/s that a GPU reaches on these networks (time one step), and the bandwidth and latency
of an all-reduce between GPUs of a node and between nodes (nccl-tests prints them as bus bandwidth).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import torch

from distcond.config.overrides import resolve
from distcond.runs.build import build_model
from distcond.training.flops import forward_flops, forwards_per_image

GPUS = (8, 16, 32, 64, 128, 256, 512)
NETWORKS = {"ResNet-18": "resnet18", "WRN-34-10": "wrn34_10"}
BYTES = 4  # of a gradient element: gradients are float32
BACKWARD = 2.0  # forward-equivalents of the one backward pass that has gradients to send


@dataclass(frozen=True)
class Machine:
    """The constants: FLOP/s of one GPU, bandwidths in bytes/s, latencies in seconds per message.

    `floor` is the minimum time of one layer's forward in seconds, the time to launch its kernels.
    """

    flops: float
    within: float
    between: float
    latency_within: float
    latency_between: float
    per_node: int
    floor: float


@dataclass(frozen=True)
class StepWork:
    """The work of a step: forward-equivalents per image, FLOPs of a forward, its layers, bytes of gradients."""

    forwards: float
    flops: float
    layers: int
    gradients: int


def count_work(model: str, method: str, steps: int) -> StepWork:
    """The counted work of a method with PGD-`steps` on CIFAR-10."""
    settings: dict[str, Any] = {"method": method, "model": model, "data": "cifar10", "attack.num_steps": steps}
    config = resolve("float_digits", settings)
    network = build_model(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return StepWork(forwards_per_image(config), forward_flops(config)[0], len(list(network.units)), BYTES * parameters)


def ring(size: int, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of a ring all-reduce: every rank sends and receives `size` bytes nearly twice, in 2 (n - 1) messages."""
    return 2 * (ranks - 1) / ranks * size / bandwidth + 2 * (ranks - 1) * latency


def tree(size: int, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of a double binary tree: the same bytes at best, in 2 log2(n) messages."""
    return 2 * size / bandwidth + 2 * math.ceil(math.log2(ranks)) * latency if ranks > 1 else 0.0


def reduction(size: int, gpus: int, machine: Machine) -> float:
    """Seconds of one all-reduce: a ring within each node, then the better of ring and tree between the nodes.

    Between nodes every GPU sends its own share of the gradients through its own network card.
    """
    local = min(gpus, machine.per_node)
    nodes = math.ceil(gpus / machine.per_node)
    seconds = ring(size, local, machine.within, machine.latency_within)
    if nodes > 1:
        share = size // local
        ways = [way(share, nodes, machine.between, machine.latency_between) for way in (ring, tree)]
        seconds += min(ways)
    return seconds


def step_seconds(load: StepWork, images: float, gpus: int, machine: Machine) -> tuple[float, float, float]:
    """Seconds of computation, of reduction, and of the step with overlap; `images` per GPU."""
    compute = load.forwards * max(images * load.flops / machine.flops, load.layers * machine.floor)
    reduce = reduction(load.gradients, gpus, machine)
    hidden = min(reduce, compute * BACKWARD / load.forwards)
    return compute, reduce, compute + reduce - hidden


def table_lines(name: str, method: str, load: StepWork, batch: int, machine: Machine) -> list[str]:
    """One table: a fixed global batch (strong scaling), and 128 images per GPU (weak scaling)."""
    alone = step_seconds(load, batch, 1, machine)[2]
    lines = [
        f"\n{name}, {method}: {load.forwards:.1f} forwards an image, {load.flops / 1e9:.2f} GFLOPs each, "
        f"{load.gradients / 2**20:.1f} MiB of gradients a step\n",
        f"| GPUs | batch {batch}: compute ms | reduce ms | step ms | efficiency | 128 each: step ms | efficiency |",
        "|---|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        compute, reduce, total = step_seconds(load, batch / gpus, gpus, machine)
        weak = step_seconds(load, 128, gpus, machine)
        cells = [gpus, *(f"{1e3 * value:.2f}" for value in (compute, reduce, total)), f"{alone / gpus / total:.0%}"]
        cells += [f"{1e3 * weak[2]:.2f}", f"{weak[0] / weak[2]:.0%}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def main() -> None:
    """Print the tables, or measure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--flops", type=float, default=150e12, help="FLOP/s of a GPU on these networks (assumed)")
    arguments.add_argument("--within", type=float, default=300e9, help="bytes/s within a node (assumed)")
    arguments.add_argument("--between", type=float, default=40e9, help="bytes/s per GPU between nodes (assumed)")
    arguments.add_argument("--latency-within", type=float, default=5e-6, help="seconds per message (assumed)")
    arguments.add_argument("--latency-between", type=float, default=15e-6, help="seconds per message (assumed)")
    arguments.add_argument("--floor", type=float, default=1e-5, help="minimum seconds of a layer's forward (assumed)")
    arguments.add_argument("--per-node", type=int, default=8, help="GPUs of a node")
    arguments.add_argument("--batch", type=int, default=1024, help="global batch of the strong scaling table")
    arguments.add_argument("--steps", type=int, default=7, help="attack steps")
    arguments.add_argument("--methods", default="pgd_at,float", help="comma-separated")
    arguments.add_argument("--measure", action="store_true", help="measure this machine's CPUs over gloo instead")
    args = vars(arguments.parse_args())
    if args.pop("measure"):
        from measured_scaling import measure

        measure()
        return
    batch, steps, methods = args.pop("batch"), args.pop("steps"), args.pop("methods").split(",")
    machine = Machine(**args)
    torch.set_num_threads(1)
    for name, model in NETWORKS.items():
        for method in methods:
            print("\n".join(table_lines(name, method, count_work(model, method, steps), batch, machine)))


if __name__ == "__main__":
    main()

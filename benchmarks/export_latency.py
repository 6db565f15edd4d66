"""The cost of a forward pass at an operating point: conditional, folded, narrow, channel-pruned; eager, compiled, ONNX.

    python benchmarks/export_latency.py --model resnet18 --batch 64 --turns 15 [--compiled] [--onnx]

Networks are untrained, since the cost does not depend on the weights. Ratios are those of interleaved passes to the
plain network, PGD-AT's without folding. The last lines are the times to change the position of a `DialNetwork`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from dial_latency import Forward, time_forwards

from distcond.config.overrides import resolve
from distcond.models.conditional import ConditionalModel
from distcond.models.dial_network import DialNetwork
from distcond.models.plain_network import fold
from distcond.registry import lookup
from distcond.runs.build import build_model


def main() -> None:
    """Time all networks, interleaved, and print the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="resnet18")
    arguments.add_argument("--batch", type=int, default=64, help="images in a pass")
    arguments.add_argument("--turns", type=int, default=15, help="passes of each, interleaved")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--compiled", action="store_true", help="also with torch.compile")
    arguments.add_argument("--onnx", action="store_true", help="also in onnxruntime")
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    x = torch.rand(args.batch, 3, 32, 32)
    with torch.no_grad():
        forwards = build_networks(args.model)
        if args.compiled:
            forwards |= {f"{name}, compiled": torch.compile(forwards[name]) for name in FOLDED}
        if args.onnx:
            forwards |= {f"{name}, onnxruntime": to_onnxruntime(forwards[name], args.threads) for name in FOLDED}
        seconds = time_forwards(forwards, x, args.turns)
    plain = statistics.median(seconds["plain"])
    print(f"{args.model}, batch {args.batch}, {args.threads} thread(s), median of {args.turns} interleaved passes")
    for name, times in seconds.items():
        print(f"{name:34} {1e3 * statistics.median(times):8.2f} ms  ratio {statistics.median(times) / plain:.3f}")
    time_positions(args.model)


#: Timed also with torch.compile and onnxruntime.
FOLDED = ("plain, folded", "oat lam 1, folded")


def build_untrained(method: str, model: str, **settings: Any) -> ConditionalModel:
    """An untrained network in eval mode."""
    options = {f"method.{name}": value for name, value in settings.items()}
    config = resolve("float_cifar10_resnet20", {"method": method, "model": model, **options})
    net = build_model(config)
    sparsity = lookup("method", method).sparsity(config, net)
    if sparsity is not None:
        sparsity.start("train")
    return net.eval()


def build_networks(model: str) -> dict[str, Any]:
    """The networks by name."""
    plain, oat, oats = (build_untrained(method, model) for method in ("pgd_at", "oat", "oats"))
    pruned = build_untrained("floats", model, by="channel", density=0.5)
    return {
        "plain": conditional(plain, 1.0),
        "plain, folded": fold(plain, 1.0),
        "plain, norms kept": fold(plain, 1.0, keep_norm=True),
        "oat lam 1": conditional(oat, 1.0),
        "oat lam 1, folded": fold(oat, 1.0),
        **{f"oats width {width:g}, folded": fold(oats, 1.0, width) for width in oats.width_mults},
        "floats half the channels, masked": fold(pruned, 0.0, narrow=False),
        "floats half the channels, removed": fold(pruned, 0.0),
    }


def conditional(model: ConditionalModel, lam: float) -> Forward:
    """The network without folding, as in training."""
    cond = model.condition(lam)
    return lambda x: model(x, cond)


def to_onnxruntime(network: Any, threads: int) -> Forward:
    """The network in onnxruntime, on as many threads as torch."""
    import onnxruntime

    from distcond.exporting.programs import write_onnx

    file = Path(tempfile.mkdtemp()) / "network.onnx"
    write_onnx(network, file, 32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"image": x.numpy()})[0]


def time_positions(model: str, positions: int = 8, turns: int = 20) -> None:
    """Print the time to change to a new position, and to one that is kept in memory."""
    for kind, keep in (("new", 1), ("kept", positions)):
        dial = DialNetwork(build_untrained("float", model), keep=keep)
        times = []
        for turn in range(turns * positions):
            start = time.perf_counter()
            dial.at((turn % positions + 1) / (positions + 2))
            times.append(time.perf_counter() - start)
        print(f"{kind} position of the dial: {1e3 * statistics.median(times[2 * positions :]):.3f} ms")


if __name__ == "__main__":
    main()

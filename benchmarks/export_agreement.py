"""How far exported networks agree with the runs they come from: logits, answers, and outcomes under AutoAttack.

    python benchmarks/export_agreement.py RUN_DIR... [--images 2000] [--autoattack 200]

Every run is folded at five positions of its dial, or at its lam grid where it has one path, and at every width. Images
are those of the test split, then of validation and training. Prints the largest difference of logits relative to the
largest logit, the images with another answer, and with --autoattack the images with another outcome.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.models.conditional import ConditionalModel, condition_at_lam
from distcond.models.dial import network_at
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir


def main() -> None:
    """One line per run."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="+")
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--autoattack", type=int, default=0, help="images under AutoAttack; 0 = none")
    found = arguments.parse_args()
    for place in found.runs:
        run = RunDir(Path(place))
        model, config = load(run.path), run.config()
        x, y = images_of(config.data, found.images)
        worst, changed, outcomes, count = 0.0, 0, 0, 0
        points: list[Any] = [0.0, 1.0]
        if model.two_paths:
            points += [OperatingPoint(1.0, "weights", t) for t in (0.25, 0.5, 0.75)]
        for point in points:
            for width in model.width_mults:
                ours, plain = reference(model, point, width), fold(model, point, width)
                with torch.no_grad():
                    expected, logits = ours(x), plain(x)
                worst = max(worst, float((logits - expected).abs().max() / expected.abs().max().clamp(min=1)))
                changed += int((logits.argmax(1) != expected.argmax(1)).sum())
                if found.autoattack and width == 1:
                    few = x[: found.autoattack], y[: found.autoattack], config.eval.attack.epsilon
                    outcomes += int((survives(ours, *few) != survives(plain, *few)).sum())
                count += 1
        attacked = f", {outcomes} other outcomes of {found.autoattack} images" if found.autoattack else ""
        print(f"{run.name}: {count} networks, logits {worst:.1e}, {changed} other answers of {len(x)} images{attacked}")


class AsTrained(nn.Module):
    """The conditional network at one lam, nothing folded."""

    def __init__(self, model: ConditionalModel, lam: float, width: float) -> None:
        super().__init__()
        self.model, self.cond = model, condition_at_lam(model, lam, width)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x, self.cond)
        return logits


def reference(model: ConditionalModel, point: Any, width: float) -> nn.Module:
    """What to compare with: the conditional network where there is one, a blend as distcond evaluates it."""
    return AsTrained(model, point, width) if isinstance(point, float) else network_at(model, point, width)


def images_of(data: Any, count: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, H, W) in [0, 1] and labels (n,), test images first."""
    prepared, parts, left = prepare_data(data), [], count
    for split in ("test", "val", "train"):
        source = open_source(prepared, split)
        raw, y = next(source.read([np.arange(min(left, len(source)))]))
        parts.append((to_float(raw).contiguous(), y))
        left -= len(y)
        if not left:
            break
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    return x, y


def survives(network: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Which images the network still gets right under standard AutoAttack."""
    from pyautoattack import AutoAttack

    perturbed, _ = AutoAttack(network, eps=epsilon, seed=0, device="cpu").run_standard_evaluation(
        x, y, batch_size=len(x)
    )
    with torch.no_grad():
        right: Tensor = network(perturbed).argmax(1) == y
    return right


if __name__ == "__main__":
    main()

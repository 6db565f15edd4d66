"""Counts become typed result rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch

from distcond.config.schema import AttackConfig, Config
from distcond.distributed.world import World
from distcond.engine.evaluate import Count
from distcond.operating_point import OperatingPoint
from distcond.results.row import Row
from distcond.runs.provenance import hardware


@dataclass(frozen=True)
class Origin:
    """Where a sweep's counts come from."""

    run_id: str
    config: Config
    world: World
    attempt: int
    epoch: int
    step: int
    split: str  # "val" or "test"
    checkpoint: str  # "live", "last" or "best"
    noisy: bool  # whether the network carries weight noise
    git_commit: str
    images: str = ""  # `Blocks.images`
    train_world_sizes: tuple[int, ...] = ()  # numbers of ranks that trained it


def rows_of(
    counts: Iterable[Count],
    attack: AttackConfig,
    origin: Origin,
    warnings: Mapping[tuple[OperatingPoint, float], str] = MappingProxyType({}),
) -> list[Row]:
    """Two rows per operating point: SA (attack "none") and RA, which holds the sentinel's warnings there."""
    settings = asdict(attack) | {"random_start": int(attack.random_start)}
    rows = []
    for count in counts:
        common, warned = _common(count, origin), warnings.get((count.point, count.width), "")
        rows.append(Row(**common, num_correct=count.sa_correct))
        rows.append(Row(**common, num_correct=count.ra_correct, attack="pgd", warnings=warned, **settings))
    return rows


def _common(count: Count, origin: Origin) -> dict[str, Any]:
    config = origin.config
    return {
        "run_id": origin.run_id,
        "attempt": origin.attempt,
        "epoch": origin.epoch,
        "step": origin.step,
        "split": origin.split,
        "checkpoint": origin.checkpoint,
        "lam": count.point.lam,
        "blend": count.point.blend,
        "blend_t": count.point.t,
        "width": count.width,
        "density": count.cost.density,
        "noise_mode": "fixed" if origin.noisy else "none",
        "noise_seed": config.eval.noise_seed if origin.noisy else 0,
        "block_size": config.eval.batch_size,
        "images": origin.images,
        "method": config.method.name,
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "num_examples": count.num_examples,
        "wall_seconds": round(count.seconds, 3),
        "world_size": origin.world.size,
        "train_world_sizes": ",".join(map(str, origin.train_world_sizes)),
        "torch_version": torch.__version__,
        "git_commit": origin.git_commit,
        "hardware": hardware(origin.world.device),
    }

"""Outcomes of all blocks become counts, and counts become rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from distcond.atomic_io import write_json
from distcond.attacks.attack import Attack
from distcond.data.prepare import resolve_dataset
from distcond.engine.campaign import outcomes
from distcond.engine.campaign.masking_files import report_at
from distcond.engine.campaign.network import network_of
from distcond.engine.campaign.outcomes import Outcome
from distcond.engine.campaign.plan import Measure, Plan
from distcond.engine.validate import blend_of
from distcond.models.flops import Cost, cost_at
from distcond.operating_point import OperatingPoint
from distcond.results import history
from distcond.results.cost import COSTS_GLOB
from distcond.results.row import Row
from distcond.results.store import write_part
from distcond.runs.pair_record import checkpoint_of
from distcond.runs.provenance import hardware
from distcond.runs.run_dir import RunDir


@dataclass(frozen=True)
class Tally:
    """What a measure gave over all blocks, in the order of the examples."""

    correct: np.ndarray  # (n,) bool
    seconds: float
    forward_rows: int


def tally(plan: Plan, measure: Measure) -> Tally:
    """Add a measure up.

    Raises:
        ConfigError: an outcome file that cannot be read.
    """
    found = [_outcome(plan, measure, block) for block in range(plan.blocks)]
    correct = np.concatenate([outcome.correct for outcome in found])
    return Tally(correct, sum(o.seconds for o in found), sum(o.forward_rows for o in found))


def _outcome(plan: Plan, measure: Measure, block: int) -> Outcome:
    return outcomes.read(plan.file(measure, block), plan.members(block))


def worst(tallies: list[Tally]) -> Tally:
    """What survives all of them."""
    correct = np.logical_and.reduce([t.correct for t in tallies])
    return Tally(correct, sum(t.seconds for t in tallies), sum(t.forward_rows for t in tallies))


def keep_rows(plan: Plan, workers: int, device: torch.device) -> list[Row]:
    """The rows of a plan that has been carried out, written to the run's results. The same plan replaces its own."""
    costs = _costs(plan)
    rows = list(_rows(plan, workers, device, costs))
    name = hashlib.blake2b(_text(plan).encode(), digest_size=4).hexdigest()
    part = write_part(plan.keep_path, f"{plan.campaign.split}-{plan.campaign.checkpoint}-{name}", rows)
    points = [
        {"lam": point.lam, **blend_of(point), "width": plan.width_mults[width], **cost._asdict()}
        for (point, width), cost in costs.items()
    ]
    write_json(part.with_name(COSTS_GLOB.replace("*", part.stem)), {"points": points})
    return rows


def _text(plan: Plan) -> str:
    # What each attack will use depends on which settings were named, not on their values alone.
    strengths = {name: asdict(found) for name, found in plan.strengths.items()}
    return json.dumps([asdict(plan.config.eval), asdict(plan.campaign), strengths, plan.fingerprint], sort_keys=True)


def _costs(plan: Plan) -> dict[tuple[OperatingPoint, int], Cost]:
    """What an image costs at each (point, width)."""
    model, size = network_of(plan), resolve_dataset(plan.config.data).image_size
    return {(point, width): cost_at(model, point, width, size) for width in plan.widths for point in plan.points}


def _rows(
    plan: Plan, workers: int, device: torch.device, costs: Mapping[tuple[OperatingPoint, int], Cost]
) -> Iterator[Row]:
    origin = _origin(plan, workers, device, RunDir(plan.run_path).starts())
    for width in plan.widths:
        for point in plan.points:
            place = {"lam": point.lam, "blend": point.blend, "blend_t": point.t, "width": plan.width_mults[width]}
            place |= {"density": costs[point, width].density}
            for noise in plan.campaign.noise:
                yield from _rows_at(plan, origin | place | _noise(plan, noise), point, width, noise)


def _rows_at(plan: Plan, common: dict[str, Any], point: OperatingPoint, width: int, noise: str) -> Iterator[Row]:
    clean, warned = tally(plan, plan.clean(point, width, noise)), report_at(plan, point, width).names
    # SA stands beside every RA, and series are told apart by their draws.
    for draws in sorted({plan.draws(attack, noise) for attack in plan.attacks or (None,)}):
        yield Row(**common, eot_draws=draws, **_counts(clean))
    for attack in plan.attacks:
        attacked = common | {"eot_draws": plan.draws(attack, noise), "warnings": warned} | _strength(plan, attack)
        for threat, found in _threats(plan, attack, point, width, noise):
            yield Row(**attacked, **threat, **_counts(found))


def _threats(
    plan: Plan, attack: Attack, point: OperatingPoint, width: int, noise: str
) -> Iterator[tuple[dict[str, Any], Tally]]:
    measures = [m for m in plan.attacked(attack, width, noise) if m.point == point]
    tallies = {m.source: tally(plan, m) for m in measures}
    wanted = plan.campaign.threat
    if "adaptive" in wanted:
        yield {"threat": "adaptive"}, tallies[point]
    if "transfer" in wanted:
        yield from (({"threat": "transfer", "attack_lam": s.lam}, found) for s, found in tallies.items() if s != point)
    if "worst" in wanted:
        yield {"threat": "worst", "attack_lam": -1.0}, worst(list(tallies.values()))


def _counts(found: Tally) -> dict[str, Any]:
    counted = {"num_correct": int(found.correct.sum()), "num_examples": len(found.correct)}
    return counted | {"wall_seconds": round(found.seconds, 3)}


def _strength(plan: Plan, attack: Attack) -> dict[str, Any]:
    used = plan.strengths[attack.name]
    return {"attack": attack.name, **asdict(used), "random_start": int(used.random_start)}


def _noise(plan: Plan, noise: str) -> dict[str, Any]:
    if not plan.noisy:
        return {"noise_mode": "none"}
    return {"noise_mode": noise, "noise_seed": plan.config.eval.noise_seed}


def _checkpoint(plan: Plan) -> str:
    """Of a pair, that of the two runs: its own has no other."""
    pair = plan.config.method.name == "pair"
    return checkpoint_of(RunDir(plan.run_path)) if pair else plan.campaign.checkpoint


def _origin(plan: Plan, workers: int, device: torch.device, starts: list[dict[str, Any]]) -> dict[str, Any]:
    config = plan.config
    return {
        "run_id": plan.run_path.name,
        "attempt": max(len(starts) - 1, 0),
        "epoch": plan.epoch,
        "step": 0,
        "split": plan.campaign.split,
        "checkpoint": _checkpoint(plan),
        "block_size": plan.block_size,
        "images": plan.images,
        "weights": plan.weights,
        "method": config.method.name,
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "world_size": workers,
        "train_world_sizes": ",".join(map(str, history.world_sizes(plan.run_path))),
        "torch_version": torch.__version__,
        "git_commit": starts[-1]["git_commit"] if starts else "unknown",
        "hardware": hardware(device),
    }
